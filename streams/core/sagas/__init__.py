"""What a saga is, as data: its definition, the checks before it runs, its expressions, schedules, picture and timeline.

Pure, and below both sides: services define and check sagas with it, the orchestrator (`sagas`) runs them.
"""
