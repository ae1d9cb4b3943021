"""Models: `base` says what a model is, one file a provider."""

from shanty_runtime.models.base import Message, Model, ModelReply, ModelRequest, ToolCard
from shanty_runtime.models.rehearsal import Rehearsal, RehearsalModel

__all__ = ["Message", "Model", "ModelReply", "ModelRequest", "Rehearsal", "RehearsalModel", "ToolCard"]
