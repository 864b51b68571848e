"""Statistics of paired runs: means, and changes from one method to another, each with its 95 % interval.

Intervals are those of a bootstrap: the runs are drawn anew with replacement, all methods of a run together.
"""
import functools
import math

import numpy as np
import pandas as pd

RESAMPLES = 10000  # of a bootstrap
FEW = 10  # runs: of fewer than these a bootstrap's interval is too narrow
NONE = (math.nan, math.nan, math.nan)  # no value, and no interval


@functools.lru_cache(8)
def drawings(n):
    """How often each of n runs is drawn, in RESAMPLES drawings of n with replacement: array (RESAMPLES, n). The same
    ones whenever n is the same, so that no result depends on what else is computed."""
    return np.random.default_rng(n).multinomial(n, [1 / n] * n, RESAMPLES).astype(float)


def interval(samples, number):
    """95 % interval of a statistic of so many runs from its values in the drawings: all but the 2.5 % at either end;
    none (NaN) of a single run."""
    if number == 1:
        return math.nan, math.nan
    cut = RESAMPLES * 25 // 1000
    ends = [cut, RESAMPLES - 1 - cut]
    return tuple(np.partition(samples, ends)[ends])


def mean(values):
    """Mean of the runs (array), and its 95 % interval: NaN of no run, and no interval of a single one."""
    number = len(values)
    if not number:
        return NONE
    return (values.mean(), *interval(drawings(number) @ values / number, number))


def percent(mine, theirs):
    """Change in % from theirs to mine (arrays): none from 0 to 0, infinite from 0 to more."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mine == theirs, 0, 100 * (mine - theirs) / np.abs(theirs))


def change(values, others):
    """Change in % from the mean of the others to that of the values, and its 95 % interval. Arrays of the same runs,
    drawn in pairs."""
    return mean_change([(values, others)])


def mean_change(settings):
    """Mean over settings of the change in %, and its 95 % interval. settings: pairs of arrays as in `change`, all of
    the same runs, drawn for all settings together; NaN in both where a setting has not that run."""
    found, samples = [], []
    for values, others in settings:
        known = ~np.isnan(values)
        values, others = np.where(known, values, 0), np.where(known, others, 0)
        if not others.any():  # nor is there a change if no run is known
            return NONE
        drawn = drawings(len(values))
        sample = percent(drawn @ values, drawn @ others)
        sample[drawn @ known == 0] = math.nan  # the drawing holds none of the runs that are known
        found.append(percent(values.sum(), others.sum()))
        samples.append(sample)
    if not found:
        return NONE
    return (float(np.mean(found)), *interval(np.nanmean(samples, axis=0), len(values)))


def compare(runs, keys, pair, who, metrics):
    """Means over runs, and the change of the first of `who` against each of the others in paired runs, in %.

    runs: a row a run: `keys` (what was set), `pair` (what names the draw, alike for all of `who`), "algorithm", the
    metrics (NaN where a run has none: left out). Returns a table, a row for each of keys, metric and algorithm: runs,
    mean, low, high (its 95 % interval), change, change_low, change_high.
    """
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        setting = setting if isinstance(setting, tuple) else (setting,)  # of one key: older releases of pandas
        wide = group.pivot(index=pair, columns="algorithm", values=list(metrics)).astype(float)
        for metric in metrics:
            first = wide[metric, who[0]].to_numpy()
            for name in who:
                values = wide[metric, name].to_numpy()
                known = ~np.isnan(values)
                both = known & ~np.isnan(first)
                changed = change(first[both], values[both]) if name != who[0] else NONE
                rows.append([*setting, metric, name, known.sum(), *mean(values[known]), *changed])
    columns = ["metric", "algorithm", "runs", "mean", "low", "high", "change", "change_low", "change_high"]
    return pd.DataFrame(rows, columns=[*keys, *columns]).round(6)


def in_settings(runs, keys, pair, metric, first, others):
    """A metric of `first` and of each of the others (names) in each setting of `keys` (see compare): {(*setting,
    other's name): pair of arrays for mean_change}."""
    wide = runs.pivot(index=pair, columns=[*keys, "algorithm"], values=metric).astype(float)
    found = {}
    for setting in runs[keys].drop_duplicates().itertuples(index=False, name=None):
        mine = wide[(*setting, first)].to_numpy()
        for name in others:
            found[(*setting, name)] = mine, wide[(*setting, name)].to_numpy()
    return found


def all_changes(settings):
    """Changes in % over settings (of in_settings): their mean, and {setting: change}; each with its interval."""
    each = {}
    for setting, (values, others) in settings.items():
        known = ~np.isnan(values)
        each[setting] = change(values[known], others[known])
    return mean_change(settings.values()), each


def shared_draws(runs, keys):
    """The runs of those draws (each named by its `keys`) on which every method has found an allocation or schedule:
    the problem of such a run is ""."""
    return runs[runs.groupby(keys)["problem"].transform(lambda problems: (problems == "").all())]


def failures(runs, keys):
    """A row for each of keys and algorithm that has failed: how many of its draws, and what it said of the first."""
    problems = runs.groupby([*keys, "algorithm"], sort=False)["problem"]
    table = problems.agg(draws="size", failed=lambda found: (found != "").sum(),
                         first_reason=lambda found: next(filter(None, found), "")).reset_index()
    return table[table["failed"] > 0]
