"""Which part of a quantized model is to blame, whoever made it, why, and what to do about it.

The quantized file is brought into one form (:mod:`lift`), its values are matched with the float model's (:mod:`match`),
every part is run alone on float inputs (:mod:`errors`), the suspects also up to the outputs (:mod:`effects`), and
numbers say what is wrong with them (:mod:`weight_faults`, :mod:`activation_faults`).
"""
