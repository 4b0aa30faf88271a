"""The judge of transaction histories: what clients read and appended, held against what an isolation level allows."""

from processors.core.verify.transactions.judging import LEVELS, Anomaly, Report, judge
from processors.core.verify.transactions.model import Op, Transaction
from processors.core.verify.transactions.reading import read_transactions

__all__ = ["LEVELS", "Anomaly", "Op", "Report", "Transaction", "judge", "read_transactions"]
