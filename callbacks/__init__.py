"""What watches the training: metrics, evaluation, figures, progress and the summary at the end.

Nothing is imported here, so that a command pays only for what it uses (matplotlib and Lightning are slow to import).
"""
