"""A long recording, which is read once from its beginning to its end, window by window."""

import numpy as np

from datamodules.speech import BadAudioError, Floats, Forwards


class Recording:
    """Decodes each sample once, whatever windows share: to seek in MP3 is to decode all that comes before.

    Args:
        path: Of a file whose header has been looked into.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: Forwards | None = None
        self._kept: Floats = np.empty(0, np.float32)
        self._first = 0
        self._place = 0

    def window(self, start: float, end: float) -> tuple[Floats, int]:
        """Reads on; what was read before and is wanted again is kept.

        Args:
            start: In seconds, not before that of the last window.
            end: Likewise.

        Returns:
            The mean of the channels (samples,), and the sample rate.

        Raises:
            BadAudioError: It cannot be read that far.
        """
        try:
            if self._file is None:
                self._file = Forwards(self.path)
                self._kept, self._first, self._place = self._kept[:0], 0, 0
            return self._read(self._file, start, end), self._file.samplerate
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            self._file = None
            raise BadAudioError(f"truncated or damaged: {error}") from error

    def _read(self, file: Forwards, start: float, end: float) -> Floats:
        first, stop = round(start * file.samplerate), round(end * file.samplerate)
        self._kept = self._kept[first - self._first :] if first >= self._first else self._kept[:0]
        self._first = first
        if first + len(self._kept) != self._place:
            self._place = file.seek(first + len(self._kept))
        read = file.read(stop - self._place, dtype="float32", always_2d=True)
        self._place += len(read)
        self._kept = np.concatenate([self._kept, read.mean(axis=1)])
        if self._place < stop - 1:  # an end may be rounded up
            raise ValueError(f"{len(self._kept) / file.samplerate:.3f} of {end - start:.3f} s are there")
        return self._kept
