"""What a catalogue costs on this machine, measured in half a minute: `zhichun plan`."""

from zhichun.score.plan.answers import Question, plan

__all__ = ["Question", "plan"]
