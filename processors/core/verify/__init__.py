"""The judge of lock histories: what clients saw, held against what a correct lock could have done."""

from processors.core.verify.conflict import Conflict, words
from processors.core.verify.history import HistoryError, read_history
from processors.core.verify.locks import SLACK_NS, STATES_MAX, Report, ResourceVerdict, Verdict, judge, verdicts
from processors.core.verify.model import Guard
from processors.core.verify.operations import NEVER_NS, Kind, Operation, Outcome

__all__ = [
    "NEVER_NS",
    "SLACK_NS",
    "STATES_MAX",
    "Conflict",
    "Guard",
    "HistoryError",
    "Kind",
    "Operation",
    "Outcome",
    "Report",
    "ResourceVerdict",
    "Verdict",
    "judge",
    "read_history",
    "verdicts",
    "words",
]
