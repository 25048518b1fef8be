"""The one exception for input that cannot be used."""


class InputError(Exception):
    """Something the user gave (a path, key, label, file or environment) cannot be used.

    The command line prints it as one message and exits with code 2, without a traceback.

    Args:
        problem: What is wrong: the value and where it came from.
        remedy: What the user can do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.remedy}" if self.remedy else self.problem
