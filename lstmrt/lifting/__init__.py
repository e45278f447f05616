"""Recurrences that are written out, in loops or step after step, as the recurrent nodes that they are."""
