"""Statistics over many levels of which each was evaluated with several seeds.

The first three take, for each level, an array whose dimension `axis` is that of its seeds.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

CONFIDENCE = 0.95
_TRIMMED = 0.25  # From both ends, for the interquartile mean.
_RESAMPLES = 2000
_POINTS = 200  # Of a curve that is a mean of others.
_BATCH = 200  # Of resamples, so that curves of many levels fit in memory.


def median(*scores: np.ndarray, axis: int = -1) -> np.ndarray:
  """Returns the median over levels of the mean over seeds."""
  return np.median([np.mean(s, axis=axis) for s in scores], axis=0)


def mean(*scores: np.ndarray, axis: int = -1) -> np.ndarray:
  """Returns the mean over levels of the mean over seeds."""
  return np.mean([np.mean(s, axis=axis) for s in scores], axis=0)


def interquartile_mean(*scores: np.ndarray, axis: int = -1) -> np.ndarray:
  """Returns the mean of the middle half of the scores of all levels and seeds (Agarwal et al.,
  2021). Levels count alike where they have different numbers of seeds.

  As in that paper's library, whole scores are left out, a quarter at each end, rounded down: of
  fewer than four none.
  """
  import scipy.stats  # It takes a second to load.

  counts = [s.shape[axis] for s in scores]
  values = np.concatenate(scores, axis=axis)
  if len(set(counts)) == 1:
    return scipy.stats.trim_mean(values, _TRIMMED, axis=axis)
  values = np.moveaxis(values, axis, -1)
  weights = np.concatenate([np.full(n, 1 / (n * len(counts))) for n in counts])
  order = np.argsort(values, axis=-1)
  ends = np.cumsum(weights[order], axis=-1)
  cut = lambda positions: np.clip(positions, _TRIMMED, 1 - _TRIMMED)
  kept = cut(ends) - cut(ends - weights[order])
  return np.sum(np.take_along_axis(values, order, -1) * kept, -1) / np.sum(kept, -1)


def interval(
  statistic: Callable[..., np.ndarray], scores: Sequence[np.ndarray]
) -> tuple[float, float] | None:
  """Returns a percentile interval by a bootstrap that resamples seeds within each level (Agarwal et
  al., 2021).

  Args:
    statistic: one of the three above.
    scores: for each level, an array over its seeds.

  Returns:
    The interval of confidence `CONFIDENCE`, or None if a level has only one seed.
  """
  found = band(statistic, scores)
  return None if found is None else (float(found[0]), float(found[1]))


def band(
  statistic: Callable[..., np.ndarray], scores: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns the intervals of `interval` at each of some points: lower and upper ends.

  Args:
    statistic: one of the three above.
    scores: for each level, an array of [points, seeds], or [seeds].
  """
  if min(array.shape[-1] for array in scores) < 2:
    return None
  import scipy.stats

  found = scipy.stats.bootstrap(
    scores,
    statistic,
    n_resamples=_RESAMPLES,
    vectorized=True,
    axis=-1,
    confidence_level=CONFIDENCE,
    batch=_BATCH,
    method='percentile',
    rng=np.random.default_rng(1),
  )
  low, high = found.confidence_interval
  return low, high


def common_frames(frames: Iterable[np.ndarray]) -> np.ndarray:
  """Returns frames at equal distances from the first to the last that several curves have in
  common, given those of each in rising order; they fall if there are none.
  """
  frames = list(frames)
  return np.linspace(max(f[0] for f in frames), min(f[-1] for f in frames), _POINTS)
