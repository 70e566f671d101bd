"""The rule that gives every pair of the sample shop its true label.

A query asks for a type and for some of the other attributes; a product offers a value of each. Then

* **E** (Exact): the product is of the asked type and has all that is asked for;
* **S** (Substitute): it is of that type and lacks something, or of the other type of the same family;
* **C** (Complement): it is an accessory of the asked type, or a main product that the asked accessory goes with;
* **I** (Irrelevant): it is of another department.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.data.sample_shop.departments import TYPES_PER_DEPARTMENT, TYPES_PER_FAMILY

# The columns of an attribute table; what can be asked for besides the type are the last six.
TYPE: Final = 0
BRAND: Final = 1
COLOR: Final = 2
ATTRIBUTES: Final = ("type", "brand", "color", "material", "feature", "size", "audience")
ABSENT: Final = -1

Attributes = npt.NDArray[np.int16]


def true_labels(asked: Attributes, offered: Attributes) -> npt.NDArray[np.int8]:
    """Judge pairs by their attributes.

    Parameters
    ----------
    asked
        What each query asks for, shape ``(n, 7)`` in the order of :data:`ATTRIBUTES`; ``ABSENT`` where it does not
        care.
    offered
        What each product is, shape ``(n, 7)``; ``ABSENT`` where the type has no such attribute.

    Returns
    -------
    numpy.ndarray
        Shape ``(n,)``: places in :data:`zhichun.core.schema.LABELS`, that is 0 for E, 1 for S, 2 for C and 3 for I.
    """
    asked_type, offered_type = asked[:, TYPE], offered[:, TYPE]
    has_all = ((asked == ABSENT) | (asked == offered))[:, BRAND:].all(axis=1)
    exact = (asked_type == offered_type) & has_all
    same_family = asked_type // TYPES_PER_FAMILY == offered_type // TYPES_PER_FAMILY
    same_department = asked_type // TYPES_PER_DEPARTMENT == offered_type // TYPES_PER_DEPARTMENT
    return np.select([exact, same_family, same_department], [0, 1, 2], default=3).astype(np.int8)
