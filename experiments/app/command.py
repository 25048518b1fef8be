"""The command ``app``: serves the page of a model to this machine, until it is told to end."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datamodules.errors import InputError
from experiments.commands import number, own_settings, switch
from experiments.predict import load

HOST = "127.0.0.1"
"""Nobody else's machine reaches it: speech is personal data, and the page knows no passwords."""
_DEFAULTS = {"port": "", "window_s": "2", "hop_s": "0.5", "calibrate": "true", "accelerator": "auto"}
_LONGEST_WINDOW_S = 600
_LARGEST_UPLOAD = "1gb"
_ENDS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def app(place: Path, settings: Sequence[str]) -> None:
    """Serves the page of a model until ctrl-C or SIGTERM, and prints its address.

    Args:
        place: A run folder, a checkpoint in one, or a folder that ``make export`` wrote.
        settings: ``port=<number>`` and others, as ``key=value``.

    Raises:
        InputError: A setting cannot be used, there is no model, packages are missing, or the port is taken.
    """
    own, others = own_settings(settings, _DEFAULTS)
    if others:
        raise InputError(f"unknown setting {others[0]!r}", f"There are: {', '.join(f'{name}=' for name in _DEFAULTS)}")
    port = int(number("port", own["port"], 1, 65535, whole=True)) if own["port"] else None
    window_s = number("window_s", own["window_s"], 0.1, _LONGEST_WINDOW_S)
    hop_s = number("hop_s", own["hop_s"], 0.01, _LONGEST_WINDOW_S)
    calibrate = switch("calibrate", own["calibrate"])
    recogniser = load(place, accelerator=own["accelerator"], calibrate=calibrate)
    with _own_environment():
        try:
            import gradio  # noqa: F401
            from starlette.middleware import Middleware
            from starlette.middleware.trustedhost import TrustedHostMiddleware
        except ImportError as error:
            raise InputError(
                f"the page needs the package {error.name}, which is not installed",
                "pip install -c constraints.txt -e '.[app]'",
            ) from error
        from experiments.app.page import page

        blocks = page(recogniser, place.resolve().name, window_s, hop_s)
        # Its threads inherit this: whatever ends the page comes to `sigwait`, and recordings are deleted.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        try:
            _, address, _ = blocks.queue().launch(
                server_name=HOST,
                server_port=port,
                share=False,
                inbrowser=False,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=_LARGEST_UPLOAD,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
                # Names of other sites that resolve to this machine get nothing.
                app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]},
            )
            print("Open this page in a browser of this machine; ctrl-C ends it.", file=sys.stderr, flush=True)
            print(address, flush=True)
            signal.sigwait(_ENDS)
            blocks.close(verbose=False)
        except OSError as error:
            if error.errno is not None:  # the system's; Gradio's own, of ports, has no number
                raise
            taken = f"port={port} is taken" if port else "no port from 7860 to 7959 is free"
            raise InputError(f"{taken} on {HOST}", "Give another port=<number>.") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Gradio without what the environment would have it do, and with a folder of its own for what is recorded."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # GRADIO_SHARE alone would open the page to everybody
    os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"]))
    with tempfile.TemporaryDirectory(prefix="ser-aae-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
