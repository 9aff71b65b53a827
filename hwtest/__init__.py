"""The meter's lowest code on real kernel devices, without a Pi: Debian kernels in QEMU.

``python -m hwtest`` boots two machines that QEMU emulates and runs the meter's own code against
the true ``/dev/gpiochip*``, ``/dev/i2c-*`` and ``/dev/rtc*`` of their kernels. Beside this folder's
modules, which prepare and drive the machines, ``inside`` holds what runs in them. What is thereby
proved, and what only a Pi can prove, is in ``docs/hardware-tests.md``.
"""
