from hypothesis import settings

# A busy machine makes no difference to what is tested.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")
