"""`make bench`: how quick and how flat the framework is, each figure beside its counterpart from the same run."""
