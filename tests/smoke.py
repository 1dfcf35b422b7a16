"The public API in one breath, with whatever versions are installed: python tests/smoke.py"
import importlib,pkgutil
import edf_nrr

for o in pkgutil.iter_modules(edf_nrr.__path__):
    if o.name[0]!='_': importlib.import_module(f'edf_nrr.{o.name}')

from edf_nrr.all import *

data = digits()
acc = accuracy(train_teacher(data, 'convnet_d2_w16', epochs=2, show=False), data)
assert .3<acc<=1, f'a teacher at {acc:.0%} after two epochs on digits'
dls = random_real(data, 2).to_dls(bs=10)
assert len(dls.one_batch()[0])==10
versions()
print('smoke: ok')
