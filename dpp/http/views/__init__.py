"""What goes out: the objects of the API as attrs types, made from the core's values.

Money becomes decimal strings here and nowhere else. msgspec writes these types, and makes their
schemas for the OpenAPI document. Without slots, because msgspec writes a slotted class slower and
in the order of the alphabet.
"""
