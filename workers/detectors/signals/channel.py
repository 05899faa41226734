"""What a voice went through before it was a file: a telephone's band, and an overdriven input.

Both are reasons to trust a score less, never an accusation. Rates are in docs/sound-signals.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workers.detectors.signals.frames import BIN_HZ, Floats, Mask, Wave

#: Speech needed before the loudest twentieth of its spectra means something: 0.5 s.
MIN_STEPS: Final = 50
#: The steps that fill a band at all are few: fricatives.
LOUDEST_PERCENTILE: Final = 95
#: A telephone ends at 3.4 kHz, and nothing sampled at 8 kHz lies above 4 (ITU-T G.712).
_ABOVE_TELEPHONE: Final = BIN_HZ > 4200  # noqa: PLR2004 - hertz
_TELEPHONE_TOP: Final = (BIN_HZ > 2000) & (BIN_HZ < 3800)  # noqa: PLR2004 - hertz
#: Wide-band speech, real and synthetic and coded, is above -17, telephones are below -25.
TELEPHONE_DB: Final = -22.0
#: Bands of 250 Hz; the bandwidth is the top of the highest one within 50 dB of the loudest bin.
_BAND_BINS: Final = 8
BANDWIDTH_DB: Final = 50.0
#: Between the 99th and the 99.9th percentile speech rises by 1.06 dB or more; where it hit a ceiling, hardly.
CLIPPED_DB: Final = 0.9
#: Below it (-60 dBFS) the steps of 16 bits are a ceiling of their own.
FAINT: Final = 1e-3
#: Samples below which a thousandth is a handful: 0.5 s.
MIN_SAMPLES: Final = 8000
_TINY: Final = 1e-14


def band(power: Floats, speech: Mask) -> dict[str, float]:
    """The bandwidth of the masked power spectra [n, 257]; empty when there is too little speech.

    `telephone_band_db`: level above 4.2 kHz against 2 to 3.8 kHz; `bandwidth_hz`: up to where there is sound.
    """
    if np.sum(speech) < MIN_STEPS:
        return {}
    top = np.percentile(power[speech], LOUDEST_PERCENTILE, axis=0) + _TINY
    ratio = np.sum(top[_ABOVE_TELEPHONE]) / np.sum(top[_TELEPHONE_TOP])
    bands = top[1:].reshape(-1, _BAND_BINS).max(axis=1)
    filled = np.flatnonzero(bands > np.max(top) / 10 ** (BANDWIDTH_DB / 10))
    hertz = float((filled[-1] + 1) * BIN_HZ[_BAND_BINS]) if len(filled) else 0.0
    return {"telephone_band_db": float(10 * np.log10(ratio)), "bandwidth_hz": hertz}


def peaks(wave: Wave) -> dict[str, float]:
    """How far the loudest thousandth of the samples rises above the loudest hundredth, dB: `peak_rise_db`.

    It survives resampling and lossy coding, which bend flat tops but do not raise them.
    """
    if len(wave) < MIN_SAMPLES:
        return {}
    loud, loudest = np.quantile(np.abs(wave), (0.99, 0.999))
    return {"peak_rise_db": float(20 * np.log10(loudest / loud))} if loud > FAINT else {}
