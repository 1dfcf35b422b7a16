"""A folder that holds the result of other settings gives the result of those that are asked for, or one line that names what differs

`ROWS`: a command, what is changed for its second run, and words of which a refusal holds one (by default the changed names).
"""
import re
import pytest

ROWS = []
def rows(command, *changes, first=None, words=()):
    "Each of `changes` is a second run after one with `first`"
    for o in changes: ROWS.append((command, first or {}, (first or {})|o, words or names(o)))

def names(change):
    "The names of settings in a change, such as iterations in settings='edf.iterations=3'"
    text = [o.split('=')[0].split('.')[-1] for o in str(change.get('settings', '')).split(',') if o]
    return tuple(text+[k for k in change if k!='settings'])

def settings(*texts, section=''): return [dict(settings=section+o) for o in texts]

EDF = ('lr_img=20.', 'lr_y=3.', 'lr_lr=1e-2', 'lr_init=.06', 'lr_min=.001', 'momentum_img=.7', 'momentum_y=.5', 'momentum_lr=.9', 'batch_syn=2',
       'loss_threshold=.1', 'min_start_epoch=1', 'max_start_epoch=1', 'alpha=.5', 'beta=none', 'beta=3.', 'cam_interval=1', 'cam_threshold=.9',
       'cam_method=gradcam', 'labels=hard', 'init=correct', 'augment=none', 'seed=1', 'iterations=6', 'iterations=2', 'syn_steps=2', 'expert_epochs=2')
EXPERTS = ('n=1', 'n=3', 'epochs=4', 'epochs=2', 'lr=.2', 'momentum=.9', 'weight_decay=.01', 'batch_size=10', 'rule=gsam', 'augment=none', 'keep=1',
           'dtype=bfloat16', 'seed=1', 'arch=convnet_d1_w4', 'amp=true')
OTHER_DATA = dict(words=('data', 'images'))

rows('dd_experts', *settings(*EXPERTS))
rows('dd_experts', dict(data='OTHER'), **OTHER_DATA)
rows('dd_distill_edf', dict(ipc=2), dict(seed=1), *settings(*(o for o in EDF if o!='seed=1')))
rows('dd_distill_edf', dict(experts='OTHER'), words=('experts',))
rows('dd_distill_dm', dict(ipc=2), dict(seed=1), *settings('iterations=6', 'iterations=2', 'lr_img=3.', 'momentum=.9', 'batch_real=4', 'augment=none',
                                                           'init=noise', 'alpha=.5', 'arch=convnet_d1_w4'))
rows('dd_distill_dm', dict(data='OTHER'), **OTHER_DATA)
rows('dd_distill_nrr', dict(ipc=2), dict(seed=1), dict(epochs=9), dict(arch='convnet_bn_d1_w8'), dict(epochs=2),
     *settings('iterations=6', 'iterations=2', 'eps=.3', 'lr=.5', 'pool=5', 'mask=binary', 'alpha_bn=0.', 'batch_size=2', 'optimiser=sgd'))
rows('dd_distill_nrr', dict(data='OTHER'), **OTHER_DATA)
rows('dd_complexity', dict(epochs=4), dict(split='test'), dict(method='gradcam'), dict(of='label'))
rows('dd_complexity', dict(data='OTHER'), **OTHER_DATA)
rows('dd_relabel', dict(kind='full'), dict(kind='hard'), dict(epochs=2), dict(epochs=5), dict(flip=0.), dict(seed=1), dict(settings='k=2'))
rows('dd_compare', dict(ipc=2), dict(seeds=3), dict(budget=5), dict(arch='convnet_d1_w4'), dict(labels='hard'), dict(methods='rded'), dict(sets=1),
     *settings('iterations=6', 'lr_img=20.', 'syn_steps=2', 'alpha=.5', 'labels=hard', section='edf.'),
     *settings('epochs=9', 'lr=.02', 'arch=convnet_bn_d1_w8', 'augment=none', section='teacher.'),
     *settings('n=2', 'epochs=4', 'lr=.05', 'batch_size=10', 'arch=convnet_d1_w4', 'seed=1', section='experts.'),
     *settings('batch_size=4', 'held_out=.3', 'checks=2', 'full_steps=4', 'augment=none', section='protocol.'), *settings('rded.crops=2', 'rded.pool=5'))
rows('dd_compare', dict(data='OTHER'), **OTHER_DATA)

# ---- functions of the library, with things of equal name and number ----
rows('record', dict(data='other_data'), **OTHER_DATA)
rows('edf_often', dict(data='other_data'), **OTHER_DATA)
rows('edf_often', dict(experts='other_experts'), words=('experts',))
rows('edf_often', dict(cam_model='other_teacher'), dict(cam_model='teacher'), words=('cam_model', 'weigh'))
rows('edf_often', dict(cam_model='other_teacher'), first=dict(cam_model='teacher'), words=('cam_model', 'weigh'))
rows('dm', dict(data='other_data'), **OTHER_DATA)
rows('dm', dict(cam_model='other_teacher'), dict(beta=2.), dict(cam_interval=1))
rows('refine', dict(syn='soft'), words=('syn', 'images'))
rows('refine', dict(teacher='other_teacher'), dict(iterations=4), dict(batch_size=4), dict(eps=.3), dict(seed=1))
rows('complexity', dict(data='other_data'), **OTHER_DATA)
rows('complexity', dict(teacher='other_teacher'), words=('model', 'teacher'))
rows('complexity', dict(threshold=.3), dict(of='label'), dict(split='test'))
rows('compare', dict(data='other_data'), **OTHER_DATA)
rows('compare', dict(teacher='other_teacher'), dict(budget=5), dict(seeds=3), dict(seeds=1), dict(protocol=dict(batch_size=5)), words=('teacher', 'budget', 'seeds', 'protocol'))
rows('shared', dict(data='other_data'), **OTHER_DATA)
rows('shared', dict(experts=dict(n=1)), dict(experts=dict(lr=.05)), dict(teacher=dict(epochs=4)), dict(teacher=dict(arch='convnet_bn_d1_w8')),
     words=('n ', 'n=', 'lr', 'epochs', 'arch'))
rows('relabel', dict(kind='hard'), dict(epochs=5), dict(teacher='other_teacher'), dict(syn='soft'), dict(seed=1))
rows('demo', dict(iterations=3), dict(lr_img=20.), dict(alpha=.4), dict(seed=1))
rows('export_png', dict(syn='soft'))
rows('export_parquet', dict(syn='soft'))
QUICK = {('edf_often', 'experts'), ('refine', 'teacher'), ('complexity', 'data'), ('record', 'data'), ('dd_experts', 'settings'), ('export_png', 'syn')}

def title(command, first, second):
    changed = {k: v for k,v in second.items() if first.get(k)!=v}
    return f'{command}-'+','.join(f'{k}={v}' if k!='settings' else v for k,v in changed.items())

def there(change, attack):
    "Where other data and other experts of the same name are"
    world = attack.zygote.folder/'world'
    paths = dict(data=str(world/'other'/'pictures'), experts=str(world/'other_picture_experts'))
    return {k: paths[k] if v=='OTHER' else v for k,v in change.items()}

@pytest.mark.parametrize('command,first,second,words', ROWS, ids=[title(*o[:3]) for o in ROWS])
def test_other_settings(command, first, second, words, attack, tally, whole):
    quick = (command, next(iter(second))) in QUICK and (command!='dd_experts' or second['settings']=='n=1')
    if not whole and not quick: pytest.skip('only with all of the attack')
    name,second,score = title(command, first, second),there(second, attack),tally.of('stale settings', command)
    before,fresh = attack.undisturbed(command, first),attack.undisturbed(command, second)
    attack.place(command)
    attack.call(command, first)
    r,run = attack.run(command, second)
    score.add(stale_problems(r, run, before, fresh, words), name)
    score.check()

def stale_problems(r, run, before, fresh, words):
    "None, where the result is that of a fresh folder, or a line names what differs"
    if before.result==fresh.result: return [('these settings change nothing, so the row shows nothing', '')]
    if run and run.result==fresh.result: return []
    if run: return [('the old result in silence' if run.result==before.result else 'a mixture in silence', '')]
    last = r.lines[-1] if r.lines else ''
    own = re.match(r'dd_\w+: |(\w+\.)*(ValueError|BadFile|\w*Error): ', last)
    if not own or 'Traceback' in r.err and last.startswith('dd_'): return [('neither a result nor a refusal', last)]
    return [] if any(o in last for o in words) else [(f'a refusal that names none of {words}', last[:200])]
