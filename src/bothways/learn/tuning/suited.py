"""What suits, where nothing is given: rates and epochs of the papers, by width and by number of examples."""

from __future__ import annotations

from bothways.learn.tuning.settings import TuningSettings


def suited_rate(width: int, settings: TuningSettings) -> float:
    """A highest learning rate for fine-tuning.

    Devlin et al. 2018 use 2e-5 to 5e-5 at width 768, Turc et al. 2019 up to 3e-4 for the small sizes; a head alone
    bears 1e-3.
    """
    if settings.freeze:
        return 1e-3
    return 3e-5 if width >= 768 else 1e-4 if width >= 384 else 3e-4


def suited_epochs(examples: int) -> int:
    """Passes over the data: 3 as Devlin et al. 2018, more where there are few examples (Mosbach et al. 2021: 20)."""
    return 3 if examples >= 2000 else 10 if examples >= 500 else 20
