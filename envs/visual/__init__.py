"""Pictures and videos made by a program: a task a module, each with five levels, a painter and worked solutions."""
