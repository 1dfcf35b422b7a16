"Presets against the figures of the published files, and what a comparison makes of them"
import copy,dataclasses
from functools import lru_cache
from pathlib import Path
import pytest
from edf_nrr.basics import changed
from edf_nrr.datasets import digits
from edf_nrr.augment import DSA
from edf_nrr.training import DATM_RECIPE, EDF_RECIPE, Recipe
from edf_nrr.trajectory import ExpertConfig, FTD_EXPERTS, MTT_EXPERTS, fingerprint, record_experts
from edf_nrr.edf import EDFConfig, VARIANTS, check_inputs, distill
from edf_nrr.presets import preset
from edf_nrr.methods import FULL_PRESET, METHODS, Shared, entries_of, make_set, method_settings, without_flip

@lru_cache
def figures():
    "Section -> lines of tests/presets.txt, split at blanks"
    sections = {}
    for line in (Path(__file__).parent/'presets.txt').read_text().splitlines():
        if line.startswith('## '): rows = sections.setdefault(line[3:], [])
        elif line and line[0]!='#': rows.append(line.split())
    return sections

def files(release):
    "(release, name) -> the keys of each file of a release that it has, as text"
    found,exceptions = figures(),{}
    head,*rows = found[release]
    for name,k,v in found.get(f'{release} exceptions', []): exceptions.setdefault(name, {})[k] = v
    common = dict(found[f'{release} common'])
    for row in rows:
        assert len(row)==len(head), row
        own = {k: v for k,v in zip(head, row) if v!='.'}
        yield (release, own.pop('config')),common | own | exceptions.get(row[0], {})

FILES = dict(o for r in ('edf', 'datm', 'mtt') for o in files(r))
each = pytest.mark.parametrize('release,name', FILES, ids=lambda o: o.replace('/', '-'))

def where(name):
    "Data set and images per class, as `preset` calls them"
    data,ipc = name.split('/IPC')
    return {'CIFAR-10': 'cifar10', 'CIFAR-100': 'cifar100', 'Tiny': 'tiny', 'TinyImageNet': 'tiny'}.get(data, data.lower()),int(ipc)

# what the library has and no release: these settings must be the defaults
OURS = 'lr_min cam_method gradient graphs max_abs save_every eval_every seed'.split()

def expected(release, name):
    "All settings that a file asks for, with the corrections that the page lists"
    f,(data,ipc),default = FILES[release, name],where(name),EDFConfig()
    off = f.get('current_max_start_epoch', 'off')=='off'
    dae,mtt = 'interval' in f,release=='mtt'
    def number(k, other=None): return float(f[k]) if k in f else other
    layers = {'11': 'features.11', '15': 'layer4', 'layer4': 'layer4'}
    return dict(
        ipc=ipc, iterations=int(f['Iteration']), syn_steps=int(f['syn_steps']), expert_epochs=int(f['expert_epochs']),
        lr_img=number('lr_img'), lr_y=number('lr_y', default.lr_y), lr_lr=number('lr_lr'), lr_init=number('lr_teacher'),
        momentum_img=number('Momentum_img'), momentum_lr=number('Momentum_lr'), momentum_y=number('Momentum_y', default.momentum_y),
        batch_syn=int(f.get('batch_syn', ipc*dict(cifar10=10, cifar100=100).get(data, 0))), loss_threshold=number('threshold'),
        min_start_epoch=int(f['min_start_epoch']), max_start_epoch=int(f['max_start_epoch']),
        initial_max_start_epoch=None if off else int(f['current_max_start_epoch']), expand_until=None if off else int(f['expansion_end']),
        alpha=number('alpha', 0.), beta=float(f.get('beta', '1').rstrip('s')) if dae else None,
        cam_interval=int(f['interval']) if dae else default.cam_interval, cam_threshold=number('act_threshold'),
        cam_layer=layers[f['cam_layer']] if dae else None, labels='hard' if mtt else 'soft',
        init=dict(real='random', samples_predicted_correctly='correct')[f['pix_init']],
        augment=DSA(crop_pad=number('ratio_crop_pad')), arch='convnet_d'+f['net'][1], zca=f['zca']=='Y',
        **{k: getattr(default, k) for k in OURS})

def test_the_figures_are_of_all_files():
    assert [sum(r==o for r,_ in FILES) for o in ('edf', 'datm', 'mtt')]==[49, 12, 4]
    assert [FILES['edf', f'Imagefruit/IPC{i}']['ipc'] for i in (1, 10, 50)]==['50']*3, 'the slip of two files'

@each
def test_every_setting_of_every_file(release, name):
    cfg,want = preset(*where(name), release),expected(release, name)
    assert set(want)=={f.name for f in dataclasses.fields(cfg)}, 'a setting without a figure'
    differ = {k: (getattr(cfg, k), v) for k,v in want.items() if getattr(cfg, k)!=v}
    assert not differ, f'setting: (preset, file) {differ}'

@each
def test_a_preset_claims_no_more_than_it_is(release, name):
    f,cfg = FILES[release, name],preset(*where(name), release)
    parts = [p for p,on in (('cpd', float(f.get('alpha', 0))>0), ('dae', 'interval' in f)) if on]
    assert cfg.method==('mtt' if release=='mtt' else 'edf' if len(parts)==2 else '+'.join(['datm', *parts]))

@pytest.mark.parametrize('release,recipe', [('edf', EDF_RECIPE), ('datm', DATM_RECIPE)])
def test_recipe_of_a_release(release, recipe):
    f = dict(figures()[f'{release} common'])
    want = Recipe(epochs=int(f['epoch_eval_train']), batch_size=int(f['batch_train']), augment=DSA(crop_pad=float(f['ratio_crop_pad'])))
    assert recipe==want

def test_imagenet_at_one_image_is_datm_with_dae(data, experts):
    cfg = preset('imagewoof', 1, arch=None, zca=None, cam_layer=None, **SMALL)
    syn = distill(data, experts, cfg, show=False)
    assert syn.provenance['method']=='datm+dae' and syn.provenance['config']['alpha']==0

# ---- networks by other names
SMALL = dict(iterations=1, syn_steps=1, expert_epochs=1, min_start_epoch=0, initial_max_start_epoch=None, expand_until=None, max_start_epoch=2,
             init='random', gradient='unrolled')

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def experts(data, tmp_path_factory):
    return record_experts(data, tmp_path_factory.mktemp('experts'), n=1, epochs=2, arch='convnet_w8', lr=.05, batch_size=256, augment=None, show=False)

def test_the_same_network_by_another_name(data, experts):
    cfg = EDFConfig(**SMALL)
    for arch in ('convnet_w8', 'convnet_d1_w8', None): check_inputs(data, experts, changed(cfg, arch=arch))
    for arch in ('convnet', 'convnet_d2_w8', 'convnet_bn_w8', 'resnet18'):
        with pytest.raises(ValueError, match=f'for {arch}, the experts are convnet_w8'): check_inputs(data, experts, changed(cfg, arch=arch))

def experts_of(cfg, size):
    "What `check_inputs` asks experts, and data, before they are there"
    class Thing: pass
    e,d = Thing(),Thing()
    d.norm,d.classes,d.size,d.channels,d.name = digits(device='cpu').norm,['a'],size,1,'data'
    e.meta = dict(norm=fingerprint(d.norm), classes=['a'], size=size, channels=1)
    e.classes,e.arch,e.row = ['a'],cfg.arch,cfg.kept
    return d,e

@each
def test_published_experts_fit_their_presets(release, name):
    cfg,size = preset(*where(name), release, zca=None),dict(cifar10=32, cifar100=32, tiny=64).get(where(name)[0], 128)
    d,e = experts_of(MTT_EXPERTS if release=='mtt' else FTD_EXPERTS, size)
    if size==32 and cfg.arch=='convnet_d5':
        with pytest.raises(ValueError, match='for convnet_d5, the experts are convnet'): check_inputs(d, e, cfg)
        e.arch = 'convnet_d5'
    check_inputs(d, e, cfg)

# ---- published settings of registered methods
def named(data, name):
    o = copy.copy(data)
    o.name = name
    return o

def of(method, data, name, ipc): return method_settings(METHODS[method], named(data, name), ipc, FULL_PRESET)

@pytest.mark.parametrize('release,name', FILES, ids=lambda o: o.replace('/', '-'))
def test_a_methods_published_settings_are_its_releases(data, release, name):
    got,want = of(release, data, *where(name)),dataclasses.asdict(preset(*where(name), release, arch=None, zca=None, cam_layer=None))
    want = {k: v for k,v in want.items() if k not in ('ipc', 'seed', 'augment')}
    assert {k: v for k,v in got.items() if k!='augment'}==want

def test_parts_are_on_where_a_method_is_named_after_them(data):
    for name in ('cifar10', 'imagewoof'):
        for ipc in (1, 10, 50):
            for v in ('datm+cpd', 'datm+dae'):
                s = of(v, data, name, ipc)
                assert EDFConfig(**s | dict(ipc=ipc) | VARIANTS[v]).method==v
                assert s['syn_steps']==preset(name, ipc).syn_steps
    assert of('datm+cpd', data, 'imagewoof', 50)['alpha']==.375 and of('datm+cpd', data, 'imagewoof', 1)['alpha']==.25

def test_changes_of_edf_reach_its_variants(data):
    p = changed(FULL_PRESET, settings=dict(edf=dict(iterations=7), mtt=dict(lr_img=3.)))
    got = {m: method_settings(METHODS[m], named(data, 'cifar10'), 1, p) for m in ('edf', 'datm', 'mtt')}
    assert {s['iterations'] for s in got.values()}=={7} and got['mtt']['lr_img']==3 and got['datm']['lr_img']==100

# ---- shared experts
def needs(method, data, name, ipc):
    s = of(method, data, name, ipc)
    return s['max_start_epoch']+s['expert_epochs']-1

LONG = [k for k in FILES if (c := preset(*where(k[1]), k[0])).max_start_epoch+c.expert_epochs-1>FULL_PRESET.experts.keep]

def test_some_presets_read_later_epochs_than_the_full_preset_keeps():
    assert sum(r=='edf' for r,_ in LONG)==7

@pytest.mark.parametrize('release,name', LONG, ids=lambda o: o.replace('/', '-'))
def test_experts_keep_what_methods_need(data, release, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('edf_nrr.methods.check_ipc', lambda data, ipc: None) # the digits stand for data of more images
    set_name,ipc = where(name)
    shared = Shared(named(data, set_name), FULL_PRESET, tmp_path)
    entries_of(['herding', release], shared, ipc)
    last = needs(release, data, set_name, ipc)
    assert shared.preset.experts.keep==last and set(range(last+1))<=set(shared.preset.experts.kept)
    assert f'experts keep epochs 0..{last} instead of 0..42: {release} needs them' in capsys.readouterr().out

def test_experts_of_a_comparison_are_recorded_with_what_it_needs(data, tmp_path, capsys):
    small = ExpertConfig(n=1, epochs=5, arch='convnet_d1_w8', lr=.05, batch_size=256, augment=None, keep=1)
    how = dict(SMALL, syn_steps=2, beta=None, alpha=0.)
    p = changed(without_flip(FULL_PRESET), experts=small, work='default', settings=dict(datm=how, mtt=how | dict(max_start_epoch=3)))
    shared = Shared(data, p, tmp_path)
    entries = entries_of(['datm', 'mtt'], shared, 1)
    assert 'experts keep epochs 0..3 instead of 0..1: mtt needs them' in capsys.readouterr().out
    syn = entries['mtt'].make(0)
    assert syn.provenance['experts']['keep']==3 and shared.experts.epochs==[0, 1, 2, 3, 5]
    # a second comparison in the folder, which needs less, takes them; one that needs more is refused with both figures
    again = Shared(data, p, tmp_path)
    assert make_set('datm', data, 1, 0, again).provenance['experts']['keep']==3
    more = Shared(data, changed(p, settings=dict(mtt=how | dict(max_start_epoch=4))), tmp_path)
    with pytest.raises(ValueError, match='config.keep: 3 there, 4 now'): make_set('mtt', data, 1, 0, more)
    late = Shared(data, changed(p, settings=dict(mtt=how | dict(max_start_epoch=9))), tmp_path/'late')
    with pytest.raises(ValueError, match='mtt needs epochs 0..9 of the experts, which train for 5'): entries_of(['mtt'], late, 1)
    assert not (tmp_path/'late').exists(), 'nothing may be recorded before the check'

def test_what_replaces_missing_published_settings_is_said(data, experts, tmp_path, capsys):
    entries_of(['edf', 'datm', 'mtt', 'rded'], Shared(named(data, 'cifar10'), FULL_PRESET, tmp_path), 10)
    assert capsys.readouterr().out.splitlines()==['mtt has no published settings for cifar10 with ipc=10: it takes those of edf']
    entries_of(['edf'], Shared(data, FULL_PRESET, tmp_path), 10)
    assert 'edf has no published settings for digits with ipc=10: it takes its defaults' in capsys.readouterr().out
    for show in (True, False):
        make_set('mtt', digits(device='cpu'), 1, 0, Shared(data, changed(FULL_PRESET, flip=False), tmp_path, experts=experts), show=show, **SMALL, batch_syn=10)
        assert ('mtt has no published settings for digits with ipc=1: it takes its defaults' in capsys.readouterr().out)==show
