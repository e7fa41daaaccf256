"""Common issues 共性诉求 (§四(五)): found in the masked key terms of a period, confirmed with a standard answer.

Texts stay in the bureaus. A bureau tells the key terms of each of its requests, masked and without their order, when it
is asked; the hub keeps none of them.
"""
