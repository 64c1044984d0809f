"""Hands nnU-Net our trainer classes. The only file of its folder, which users put into `nnUNet_extTrainer`.

nnU-Net imports each file of that folder as a top-level module, asks it for the class by name and then forgets the
module. Were the classes defined here, they could be neither pickled nor compared; so they are fetched from the package.
"""


def __getattr__(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    from adnext_plugin.registry import TRAINERS, load, registered_names

    if name not in registered_names(TRAINERS):
        raise AttributeError(name)
    from adnext_plugin.trainers.nnunet_errors import say_errors_in_one_line

    say_errors_in_one_line()
    return load(TRAINERS, name)
