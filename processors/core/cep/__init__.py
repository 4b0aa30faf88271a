"""Complex event processing: patterns over the events of a key, with the semantics of Apache Flink CEP.

The language is in `expressions`, `model`, `text`, `loading` and `builder` (docs/cep-patterns.md); what runs it in `engine`.
"""
