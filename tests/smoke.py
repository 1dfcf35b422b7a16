"The public API in one breath, with whatever versions are installed: python tests/smoke.py"
import importlib,pkgutil,tempfile
import edf_nrr

for o in pkgutil.iter_modules(edf_nrr.__path__):
    if o.name[0]!='_': importlib.import_module(f'edf_nrr.{o.name}')

from edf_nrr.all import *

data = digits()
acc = accuracy(train_teacher(data, 'convnet_d2_w16', epochs=2, show=False), data)
assert .3<acc<=1, f'a teacher at {acc:.0%} after two epochs on digits'
dls = random_real(data, 2).to_dls(bs=10)
assert len(dls.one_batch()[0])==10
with tempfile.TemporaryDirectory() as d:
    experts = record_experts(data, d+'/experts', n=2, epochs=4, arch='convnet_d1_w16', lr=.1, batch_size=64, show=False)
    syn = distill(data, experts, EDFConfig(ipc=1, iterations=3, syn_steps=3, expert_epochs=1, initial_max_start_epoch=None, max_start_epoch=3, lr_img=10, loss_threshold=2), path=d+'/edf')
    again = Distilled.load(d+'/edf/distilled.safetensors')
    assert load_export(syn.export(d+'/png').path).labels.equal(syn.labels)
assert again.images.equal(syn.images)
print(compare(data, {'edf': syn}, experts.arch, ['hard'], 2, 10, Protocol(lrs=(.05,)), full=False, show=False).markdown())
print(evaluate(syn, data, experts.arch, 2, Recipe(epochs=20)))
from edf_nrr.cli import COMMANDS, DocumentedCommand
for name,about in COMMANDS.items():
    cmd = DocumentedCommand(name, about)
    assert '--help' in cmd.get_help(cmd.make_context(name, [], resilient_parsing=True))
print('smoke: ok')
