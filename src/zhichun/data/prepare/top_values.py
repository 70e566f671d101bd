"""The brands and colors that most products of a locale have."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def top_values(values: pa.ChunkedArray, locales: pa.ChunkedArray, most: int = 10) -> dict[str, Any]:
    """Count values by locale, upper and lower case alike.

    Parameters
    ----------
    values, locales
        A value, or null, and the locale of each product.
    most
        How many of the most frequent values to give.

    Returns
    -------
    dict
        By locale ``values`` (how many different ones there are), ``products`` (that have one) and ``top`` (values in
        lower case with their counts, by count descending and then by text).
    """
    there = values.is_valid()
    encoded = pc.utf8_lower(values.filter(there)).combine_chunks().dictionary_encode()
    of_value = locales.filter(there).combine_chunks().dictionary_encode()
    shape = len(of_value.dictionary), len(encoded.dictionary)
    cells = of_value.indices.to_numpy().astype(np.int64) * shape[1] + encoded.indices.to_numpy()
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    found = {}
    for locale, of_locale in sorted(zip(of_value.dictionary.to_pylist(), counts, strict=True)):
        # All that are as frequent as the last one shown, so that ties are broken by text and not by place.
        least = max(1, int(np.sort(of_locale)[-most:][0]))
        places = np.flatnonzero(of_locale >= least)
        names = encoded.dictionary.take(pa.array(places)).to_pylist()
        top = sorted(zip((-of_locale[places]).tolist(), names, strict=True))[:most]
        found[locale] = {
            "values": int(np.count_nonzero(of_locale)),
            "products": int(of_locale.sum()),
            "top": [[name, -count] for count, name in top],
        }
    return found
