"""A model's first run."""

import logging

import numpy as np

from edge_mcp.engine.host.runtimes.base import DATATYPES, LoadedModel
from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)


def warm_up(model: LoadedModel) -> None:
    """One run on zeros: a first run allocates, and a model that cannot run at all is found now.

    A dimension of any size is taken as 1. Where that guess fails, nothing is said against the model. Raises: ModelError when a
    model fails whose sizes are all known, but for the batch.
    """
    shapes = [tuple(1 if size == -1 else size for size in spec.shape) for spec in model.inputs]
    certain = not any(spec.any_rank or -1 in spec.shape[model.dynamic_batch :] for spec in model.inputs)
    tensors = {
        spec.name: np.full(shape, "" if spec.datatype == "BYTES" else 0, DATATYPES[spec.datatype])
        for spec, shape in zip(model.inputs, shapes, strict=True)
    }
    try:
        model.infer(tensors)
    except EdgeError as error:
        if certain and not any(spec.datatype == "BYTES" for spec in model.inputs):
            raise
        logger.debug("a run on empty tensors failed, which may be their fault: %s", error)
