"""Settings of the model: plain dataclasses, free of heavy imports, so that a wrong key is answered at once."""

from dataclasses import dataclass, field


@dataclass
class FeatureSettings:
    """Log-mel spectrogram and its normalisation.

    Attributes:
        sample_rate: In Hz.
        mels: Number of mel bands.
        window_ms: Length of the analysis window.
        hop_ms: Step between frames.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        normalise: ``utterance`` removes one mean and divides by one deviation over all bands and frames of an utterance
            (level and gain vanish, spectral shape stays); ``utterance_band`` does so band by band; ``training`` uses
            the bands' statistics over the training data.
    """

    sample_rate: int = 16000
    mels: int = 64
    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 50.0
    high_hz: float = 8000.0
    normalise: str = "utterance"


@dataclass
class AugmentationSettings:
    """Each is off at zero (or at equal ends of its range).

    Attributes:
        speed: Resampling factor drawn from 1 - speed to 1 + speed: tempo and pitch change together.
        gain_db: Level change drawn from -gain_db to gain_db.
        noise: Share of a batch's utterances that are given noise.
        noise_snr_db: Lowest and highest signal-to-noise ratio.
        rate: Time stretch of the log-mel, drawn log-uniformly from 1 / (1 + rate) to 1 + rate: tempo without pitch.
        shift: Largest shift along the bands, in bands: a vocal tract of another length.
        band_masks: Number of SpecAugment masks along the bands.
        band_mask_size: Their largest width in bands.
        frame_masks: Number of SpecAugment masks along time.
        frame_mask_size: Their largest width in frames.
        mixup: Parameter of the symmetric beta distribution that the weight of labelled pairs is drawn from.
    """

    speed: float = 0.0
    gain_db: float = 6.0
    noise: float = 0.3
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    rate: float = 0.18
    shift: float = 3.0
    band_masks: int = 2
    band_mask_size: int = 10
    frame_masks: int = 2
    frame_mask_size: int = 30
    mixup: float = 0.0


@dataclass
class EncoderSettings:
    """A stack of convolution blocks and attentive statistics pooling.

    Attributes:
        channels: Output channels of each block; each block halves bands and frames. Processors compute with vectors of
            16 numbers: multiples of 16 cost less than what lies between them.
        layers: Convolutions of each block; the last number holds for all blocks that follow. At the first block's
            resolution, the second one takes as long as a whole later block: ``[1, 2]`` goes without it.
        normalisation: ``batch``, or ``group`` (statistics of one utterance only).
        dropout: Probability that a channel of the pooled statistics is dropped.
        attention: Width of the hidden layer that weighs the frames.
    """

    channels: list[int] = field(default_factory=lambda: [32, 48, 96, 96])
    layers: list[int] = field(default_factory=lambda: [2])
    normalisation: str = "batch"
    dropout: float = 0.2
    attention: int = 64


@dataclass
class DecoderSettings:
    """The decoder and its loss.

    Attributes:
        weight: Weight of the reconstruction loss; 0 leaves the decoder out.
        channels: Channels of its convolutions.
        waves: Cosines over time that the code sets the amplitudes of: the finest course in time it can describe has
            ``waves / 2`` periods in an utterance.
    """

    weight: float = 1.0
    channels: int = 16
    waves: int = 16


@dataclass
class AdversarySettings:
    """The discriminator on the code z.

    Attributes:
        weight: Weight of the encoder's adversarial loss; 0 leaves the discriminator out.
        prior: ``gaussian``, or ``mixture`` (one component a class).
        radius: Distance of the mixture's components from the origin.
        hidden: Width of the discriminator's two hidden layers.
    """

    weight: float = 0.1
    prior: str = "gaussian"
    radius: float = 4.0
    hidden: int = 128


@dataclass
class ConsistencySettings:
    """Agreement with a teacher on the emotion of all speech, labelled or not.

    The teacher is the average of the model's own weights (mean teacher, Tarvainen and Valpola, NeurIPS 2017) or another
    model (distillation, Hinton et al., arXiv 1503.02531; on speech without labels, self-training), and hears the
    utterance without the noise and the masks that the model hears it with (FixMatch, Sohn et al., NeurIPS 2020).

    Attributes:
        weight: Weight of the cross-entropy with the teacher's probabilities; 0 goes without a teacher.
        temperature: What the logarithms of the teacher's probabilities are divided by: below 1 it becomes surer.
        threshold: An utterance counts only where the teacher is at least so sure of one class.
        labelled: Whether labelled utterances take part.
    """

    weight: float = 0.0
    temperature: float = 1.0
    threshold: float = 0.0
    labelled: bool = True


@dataclass
class AdaptationSettings:
    """What is fitted, before a test, to unlabelled speech of the tested corpora, by speakers who are not tested.

    Attributes:
        statistics: The running statistics of batch normalisation (Li et al., "Revisiting Batch Normalization for
            Practical Domain Adaptation", ICLR Workshop 2017).
        priors: The emotions' shares: probabilities are scaled so that, in the mean over this speech, the classes are as
            frequent as in training (the correction of Saerens et al., Neural Computation 14(1), 2002, for known
            shares). It assumes that they are; of acted corpora, whose classes are balanced, it is nearly true.
    """

    statistics: bool = False
    priors: bool = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to fit."""
        return self.statistics or self.priors


@dataclass
class HeadSettings:
    """A head and its loss.

    Attributes:
        task: Name of the task; empty means the head's own name. Two heads may share a task.
        weight: Weight of its loss; 0 leaves the head out.
        adversarial: Reverses the gradient into the encoder, so that the code loses what the head looks for.
        reads: Parts of the code that it sees; empty means all.
        hidden: Width of a hidden layer; 0 is a linear head.
        dropout: On the code.
        label_smoothing: For cross-entropy.
        class_weights: Weighs classes by the inverse of their training frequency.
        margin: Additive angular margin in radians; 0 is the plain softmax.
        scale: Of the cosines under an angular margin.
    """

    task: str = ""
    weight: float = 1.0
    adversarial: bool = False
    reads: list[str] = field(default_factory=list)
    hidden: int = 0
    dropout: float = 0.2
    label_smoothing: float = 0.0
    class_weights: bool = False
    margin: float = 0.0
    scale: float = 15.0


@dataclass
class OptimiserSettings:
    """AdamW, with one-cycle learning rates (Smith and Topin, 2018).

    Attributes:
        learning_rate: Highest rate of encoder, heads and decoder.
        discriminator_learning_rate: Highest rate of the discriminators.
        weight_decay: Decoupled weight decay.
        warm_up: Share of the steps in which the rate rises.
    """

    learning_rate: float = 2e-3
    discriminator_learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warm_up: float = 0.3


@dataclass
class ModelSettings:
    """All parts of the model; a part of weight 0 is left out.

    Attributes:
        features: Log-mel spectrogram.
        augmentation: Random changes in training.
        encoder: Log-mel to code.
        code: Parts of the code and their sizes; heads may read some parts only, decoder and discriminator see all.
        decoder: Code to log-mel.
        adversary: Discriminator of codes.
        variational: Weight of a variational autoencoder's divergence, whose code is drawn in training and its mean in
            evaluation; 0 is a code without a distribution of its own.
        categorical: Weight of a second discriminator, on a categorical code beside z: the emotion head's probabilities,
            which the decoder then sees too; 0 leaves it out.
        consistency: Agreement with a teacher.
        adaptation: What is fitted to unlabelled speech of the tested corpora.
        separate_statistics: Auxiliary utterances go through the encoder by themselves and leave no trace in the running
            statistics of batch normalisation, which evaluation on emotional speech uses.
        heads: Tasks on the code, by name.
        window_s: In evaluation, utterances longer than this are cut into windows whose outputs are averaged.
        optimiser: Learning rates and decay.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    code: dict[str, int] = field(default_factory=lambda: {"shared": 128})
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    adversary: AdversarySettings = field(default_factory=AdversarySettings)
    variational: float = 0.0
    categorical: float = 0.0
    consistency: ConsistencySettings = field(default_factory=ConsistencySettings)
    adaptation: AdaptationSettings = field(default_factory=AdaptationSettings)
    separate_statistics: bool = True
    heads: dict[str, HeadSettings] = field(default_factory=dict)
    window_s: float = 6.0
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    @property
    def tasks(self) -> set[str]:
        """Names of the tasks that there are heads for."""
        return {head.task or name for name, head in self.heads.items() if head.weight > 0}
