"""Clustering: do groups of vectors that lie together agree with the classes of their texts?"""

from __future__ import annotations

import numpy as np

from bothways.chance import derived_seed
from bothways.errors import BothwaysError, need
from bothways.learn.measures.measured import Measured
from bothways.learn.measures.retrieval import Vectors
from bothways.learn.vectors.data import VectorData

_STARTS = 5
_BATCH = 1024


def measure_clustering(embed: Vectors, data: VectorData, seed: int) -> Measured:
    """k-means with as many groups as there are classes, as in MTEB (Muennighoff et al. 2023, section 3.2).

    Scores: the V-measure (Rosenberg and Hirschberg 2007), the adjusted Rand index and normalised mutual information.
    """
    need("sklearn", "torch", "Clustering")
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, v_measure_score

    names, classes = np.unique(np.array(data.labels), return_inverse=True)
    if len(names) < 2:
        raise BothwaysError(f"{data.name} has one class only ({names[0]}); clusters are compared with at least two")
    vectors = embed(data.texts, "")
    groups = MiniBatchKMeans(
        n_clusters=len(names),
        batch_size=_BATCH,
        n_init=_STARTS,
        random_state=derived_seed("clusters", seed) % 2**32,
    ).fit_predict(vectors)
    scores = {
        "v_measure": float(v_measure_score(classes, groups)),
        "ari": float(adjusted_rand_score(classes, groups)),
        "nmi": float(normalized_mutual_info_score(classes, groups)),
    }
    return Measured(scores, len(data), None, {"classes": len(names)})
