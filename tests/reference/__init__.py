"""A second implementation of the published Equiformer: NumPy, float64, forward pass only.

It is written from the specification alone, shares no code with `equiformer_jax` and uses neither
JAX nor e3nn: the Clebsch-Gordan coefficients are made here too (`wigner.py`). Its one purpose is to
be compared with, so it favors the plainest form of each formula over speed. Parameters are looked
up under the official `state_dict` names. "SPEC" is the specification of the published model.

Everything smooth in it is also holomorphic (no `abs`, no `conj` on the way of the data), so that
derivatives come from complex arguments without subtraction, see `derivatives.py`.
"""
