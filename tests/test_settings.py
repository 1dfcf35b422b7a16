"Wrong settings: each is refused before any work, with its name, its value and what is allowed"
import dataclasses,json,math,resource,subprocess,sys,time
from pathlib import Path
from typing import get_args,get_origin
import pytest,torch
import edf_nrr.checks # noqa: F401, all settings classes, as subclasses of `Settings`
from edf_nrr.augment import DSA,Views,cutmix_draw
from edf_nrr.baselines import SRE2L,herding,k_center,rded,sre2l
from edf_nrr.basics import Settings,changed,check_call,is_allowed,type_words
from edf_nrr.cam import cam
from edf_nrr.cidd import CIDDConfig,initialise
from edf_nrr.cli import one_line,parse_settings
from edf_nrr.compare import Entry,Protocol,compare
from edf_nrr.compdd import complexity,easy_hard,similar_groups
from edf_nrr.cpd import cpd
from edf_nrr.dae import DAE
from edf_nrr.datasets import cluttered_digits,digits
from edf_nrr.dbr import Online,StudentLoss,evaluate_labels,label_views,relabel
from edf_nrr.demo import run_demo
from edf_nrr.dm import DMConfig,dm
from edf_nrr.edf import EDFConfig,distill
from edf_nrr.files import image_folder,parquet
from edf_nrr.load import load_data
from edf_nrr.methods import FULL_PRESET,METHODS,Preset,QUICK_PRESET,Shared,adjusted,entries_of,make_set
from edf_nrr.models import create_model
from edf_nrr.nrr import NRRConfig,refine
from edf_nrr.plan import Plan,Work
from edf_nrr.presets import preset
from edf_nrr.training import Recipe,evaluate,random_real,train_teacher,tune_lr
from edf_nrr.trajectory import ExpertConfig,Experts,record_experts
from test_presets import FILES,where

nan,inf = math.nan,math.inf
whole = [0, -3, 1.5, 10., 'abc', True, nan] # wrong where a whole number above 0 is asked for
rate = [-1., nan, inf, '1e-3'] # wrong where a number, 0 or more, is
share = [-.1, 1., 2, nan, 'half'] # wrong where a share below 1 is
part = [0, 1.5, nan, -1] # wrong where a share above 0 is
flag = [1, 'yes', None]

CLASSES = {
    EDFConfig: dict(ipc=whole, iterations=whole, syn_steps=[0, 'all'], expert_epochs=[0, 2.], lr_img=rate, lr_y=rate, lr_lr=[-1e-3, nan], lr_init=[0, -1, inf], lr_min=[0, 1, nan],
                    momentum_img=share, momentum_y=[2], momentum_lr=[1.], batch_syn=whole, loss_threshold=[0, -1, inf, nan], min_start_epoch=[-1, .5], initial_max_start_epoch=[0, 'six'],
                    max_start_epoch=[0, 12.5], expand_until=[0, -5], alpha=share, beta=[0., -1., nan], cam_interval=[0, 1.5], cam_threshold=[5, -1, nan], cam_method=['gradcam+', None],
                    cam_layer=[4], labels=['fuzzy', None], init=['real', 0], augment=['flip', True, 0], gradient=['adjont', None], graphs=[-1, 1.5], max_abs=[nan, 0, inf, -1],
                    save_every=[0, 'never'], eval_every=[-3, 0, 2.5], arch=[5], zca=['Y', 1], seed=[.5, 'a', None]),
    ExpertConfig: dict(n=whole, epochs=whole, arch=[None, 3], rule=['adam'], lr=[0, -.1, inf, nan], momentum=share, weight_decay=rate, batch_size=[0, 64.], rho=[-1, nan], alpha=[nan, -1],
                       augment=['crop'], keep=[0, -1, 1.5, 99], dtype=['int8', 'float33'], seed=['0'], amp=flag, compile=[0]),
    DMConfig: dict(ipc=[0, 2.5], iterations=[0, 'abc'], lr_img=[0, -1, inf, nan], momentum=share, batch_real=[0], arch=[torch.nn.Linear, None], augment=['flip'], init=['zero'], alpha=share,
                   beta=[0, -1], cam_interval=[0], cam_threshold=[5], cam_method=['x'], cam_layer=[3], max_abs=[nan, 0], save_every=[0, -1], seed=[1.5]),
    NRRConfig: dict(eps=part, mask=['hard', None], iterations=[-1, 1.5, 'abc'], lr=[0, -1, nan, inf], optimiser=['lion'], betas=[(.5, 1.), (.5,), .9, (nan, .9)], alpha_bn=rate, first_bn_multiplier=[-1, nan],
                    cam_method=['cam+'], cam_layer=[0], cam_refresh=[0, -1], augment=['flip', 3], batch_size=[0, 100.], save_every=[0], seed=['x']),
    CIDDConfig: dict(tiles=[0, 1.5], crops=[0, -1], scale=[(0, 1), (.5, 2), .5, (.1,)], pool=[0, inf], keep=[0, 1.5], ratio=['sum'], select=['lowest', None], require_correct=flag, scoring=['padded'],
                     cam_method=['x'], cam_layer=[True], seed=[.1]),
    Recipe: dict(epochs=whole, batch_size=whole, optimiser=['lion', None], lr=[0, -.1, inf, nan, 'high'], momentum=[1, 2, -1, nan], weight_decay=[-1, nan, inf], schedule=['linear', None],
                 augment=['flip', 1], hard=flag),
    DSA: dict(strategy=[3, None], ops=['both', None], siamese=flag, crop_pad=[-1, 2, nan], cutout=[1.5], scale=[.5, inf, nan], rotate=[-1, 181, nan], flip=[2, -.1], brightness=[-1, inf],
              saturation=[-1, nan], contrast=[-2, 'low']),
    Views: dict(seed=[.5], size=[0, 8.], scale=[(0, 1), (.5, 2), .5], ratio=[(0, 1), (nan, 1)], flip=[-1, 2, nan]),
    StudentLoss: dict(match=['l3'], alpha=rate, temperature=[0, -1, inf, nan], scale_t2=flag, rest=['all']),
    Protocol: dict(batch_size=[0, 1.5], lrs=[(), (0,), (-1.,), .1, (nan,)], soft_lrs=[(inf,), ('a',)], augment=['crop'], flip=[2, nan], held_out=[0, 1, nan, 2], checks=[0, 2.5], full_steps=[0, -1]),
    Entry: dict(sets=[0, -1, 1.5], recipe=['datm'], loss=['kl'], labels=['soft', 3]),
    Preset: dict(work=['fast'], flip=flag, arch=[None], budget=whole, seeds=[0, -1, 'all'], size=[0, -1, 1.5], n_train=[0, -5], n_test=[0, .5]),
    Plan: dict(size=whole, student=[None, 3], teacher=[None, 3], steps=whole, teacher_epochs=[0, 'all'], held_out=[0, 1, nan, 2], seeds=[0, 1.5], test_seeds=[0, -1], full_seeds=[0, 'a'],
               experts=[0, 2.5], expert_epochs=[0, -1]),
    Work: dict(n_train=whole, n_held=[0, -1], n_test=[0, 1.5], n_classes=[0, 'ten'], channels=[0, -3], ipc=[0, 2.5]),
}
GIVEN = {Views: dict(seed=0, size=8), Preset: dict(experts=ExpertConfig(), teacher={}), Plan: dict(size=8, student='convnet', teacher='convnet_bn'),
         Work: dict(n_train=9, n_held=1, n_test=1, n_classes=2, channels=3, ipc=1)}

FUNCTIONS = {
    'train_teacher': (lambda w, **k: train_teacher(w.data, 'convnet_d1_w8', show=False, **k), dict(epochs=whole, lr=[0, -1, inf, nan], batch_size=[0, 1.5], augment=['flip'], seed=['a'], epoch=[3], momentum=[.9])),
    'relabel': (lambda w, **k: relabel(w.syn, w.net, show=False, **k), dict(epochs=whole, dtype=['int4', None], k=[0, 2.5, 'all'], d_max=[0, -1, nan, inf], seed=[.5], batch_size=whole, views=['all'], kk=[3], epoch=[1], top=[2])),
    'Online': (lambda w, **k: Online(w.syn, w.net, **k), dict(epochs=[0, 'a'], dtype=['x'], k=[0], d_max=[nan])),
    'label_views': (lambda w, **k: label_views(w.syn, **k), dict(seed=['a'], scale=[(0, 1), .5], flip=[2, nan])),
    'evaluate': (lambda w, **k: evaluate(w.syn, w.data, 'convnet_d1_w8', **k), dict(seeds=[0, -2, [], [0, 0, 0], 1.5, 'abc', None, [.5]], checks=[0, -1, 1.5], recipe=['datm'], together=['yes'], seed=[1])),
    'evaluate_labels': (lambda w, **k: evaluate_labels(w.syn, w.labels, w.data, 'convnet_d1_w8', **k), dict(seeds=[0, [], [1, 1]], checks=[0], recipe=[3])),
    'tune_lr': (lambda w, **k: tune_lr(w.syn, w.data, 'convnet_d1_w8', **k), dict(lrs=[(), (0,), (nan,), .1], seeds=[0, -1, 1.5], fraction=[0, 1, nan, 5])),
    'compare': (lambda w, **k: compare(w.data, {'a': w.syn}, 'convnet_d1_w8', show=False, **k), dict(seeds=[0, -1, [], [0, 0, 0], 'all'], budget=[0, -5, 1.5, nan], protocol=['quick'], sets=[1])),
    'random_real': (lambda w, **k: random_real(w.data, **k), dict(ipc=[0, -1, 2.5, 5000])),
    'herding': (lambda w, **k: herding(w.data, w.net, **k), dict(ipc=[0, -1, 1.5, 5000], batch_size=[0, 'all'])),
    'k_center': (lambda w, **k: k_center(w.data, w.net, **k), dict(ipc=[0, -1, 5000], batch_size=[-1])),
    'rded': (lambda w, **k: rded(w.data, w.net, **k), dict(ipc=[0, 2.5], tiles=[0, 2], crops=[0], scale=[(0, 1)], pool=[0], seed=['x'], batch_size=[0, 1.5])),
    'sre2l': (lambda w, **k: sre2l(w.data, w.net, show=False, **k), dict(ipc=[0, 'x'], iterations=[-1, 'abc'], lr=[nan], cfg=[EDFConfig()], iteration=[3])),
    'initialise': (lambda w, **k: initialise(w.data, w.net, **k), dict(ipc=[0, -1, 1.5], batch_size=[0, 'x'], crops=[0], selct=['low'])),
    'refine': (lambda w, **k: refine(w.syn, w.net, show=False, **k), dict(eps=[0, nan], iterations=['abc'], lr=[inf], alpha=[1])),
    'dm': (lambda w, **k: dm(w.data, show=False, **k), dict(ipc=[0], iterations=[10.], lr=[1.])),
    'distill': (lambda w, **k: distill(w.data, Experts.__new__(Experts), show=False, **k), dict(iterations=[10., 'abc'], lr_imgs=[1.], momentum_img=[2])),
    'record_experts': (lambda w, **k: record_experts(w.data, 'nowhere', show=False, **k), dict(n=[0], lr=[inf], epoch=[2], keep=[50])),
    'load_data': (lambda w, **k: load_data('digits', **k), dict(size=[0, -8, 8.5, 'x'], object_fraction=[0, 5, nan, -1], n_train=[0, -1, 1.5], n_test=[0, -3], zca=[2, 'y'])),
    'digits': (lambda w, **k: digits(**k), dict(size=[0, 8.], test_fraction=[0, 1, nan, 2])),
    'cluttered_digits': (lambda w, **k: cluttered_digits(**k), dict(n_train=[0, -1, 10.], n_test=[0], size=[0, 16.], object_fraction=[0, 2, nan, .001])),
    'image_folder': (lambda w, **k: image_folder('nowhere', **dict(size=8) | k), dict(size=[0, -1, 8.5], test_fraction=[0, 1, nan, -1])),
    'parquet': (lambda w, **k: parquet('nowhere', **k), dict(size=[0], n_train=[0, 1.5], n_test=[-1])),
    'whiten': (lambda w, **k: w.data.whiten(**k), dict(eps=[-1, 0, nan, inf, 'x'])),
    'take': (lambda w, **k: w.data.take(**dict(n_per_class=3) | k), dict(n_per_class=[0, -1, 1.5], n_test=[0])),
    'resized': (lambda w, **k: w.data.resized(**k), dict(size=[0, -1, 7.5])),
    'validation': (lambda w, **k: w.data.validation(**k), dict(fraction=[0, 1, nan, -1, 2])),
    'create_model': (lambda w, **k: create_model('convnet', **dict(n_classes=10, size=8) | k), dict(n_classes=[0, 10.], size=[0, -1], channels=[0], seed=['x'])),
    'complexity': (lambda w, **k: complexity(w.data, w.net, show=False, **k), dict(split=['val'], method=['x'], of=['best'], threshold=[0, 50, nan], batch_size=[0, 1.5], save_every=[0, -1], batchsize=[3])),
    'easy_hard': (lambda w, **k: easy_hard(w.data, w.net, **dict(groups=1, k=2) | k), dict(k=[0, 1, -1, 2.])),
    'similar_groups': (lambda w, **k: similar_groups(w.data, w.net, **k), dict(n=[0, -1, 1.5])),
    'cam': (lambda w, **k: cam(w.net, w.syn.images, 0, **k), dict(method=['x'], batch_size=[0, -1], samples=[0, 2.5], std=[-1, nan])),
    'cutmix_draw': (lambda w, **k: cutmix_draw(3, 8, torch.Generator(), **k), dict(alpha=[0, -1, nan])),
    'cpd': (lambda w, **k: cpd(**k), dict(alpha=share)),
    'DAE': (lambda w, **k: DAE(w.net, **k), dict(beta=[0, nan], interval=[0, 1.5], method=['x'], threshold=[5, -1])),
    'run_demo': (lambda w, **k: run_demo('nowhere', **k), dict(seeds=[0, -1], iterations=[0, 1.5], epochs=[0], size=[0], object_fraction=[0, 5])),
    'Preset.teacher': (lambda w, **k: adjusted(QUICK_PRESET, {f'teacher.{n}': v for n,v in k.items()}), dict(epochs=[0, 'abc', 1e1], lr=[inf, -1], augment=['x'], batch_size=[0], epoch=[3], depth=[2])),
    'Preset.experts': (lambda w, **k: adjusted(QUICK_PRESET, {f'experts.{n}': v for n,v in k.items()}), dict(n=[0], momentum=[2], epoch=[3], weight_decay=[nan])),
    'Preset.protocol': (lambda w, **k: adjusted(QUICK_PRESET, {f'protocol.{n}': v for n,v in k.items()}), dict(checks=[0], held_out=[1], lr=[.1])),
    'Preset.edf': (lambda w, **k: adjusted(QUICK_PRESET, {f'edf.{n}': v for n,v in k.items()}), dict(iterations=['abc', 1e1], momentum_img=[2], eval_every=[-3], cam_threshold=[5], iteration=[3])),
    'Preset.rded': (lambda w, **k: adjusted(QUICK_PRESET, {f'rded.{n}': v for n,v in k.items()}), dict(tiles=[0], pool=[1.5], scale=[.5], crop=[2])),
    'Entry.labels': (lambda w, **k: Entry(w.syn, k), dict(epochs=[0], k=['all'], kid=['soft'], dtype=['x'])),
    'entries_of': (lambda w, **k: entries_of(['edf', 'nrr-dd'], w.shared, **k), dict(ipc=[0, -1, 1.5, 5000], sets=[0, -1, 2.5])),
    'make_set': (lambda w, **k: make_set('nrr-dd', w.data, shared=w.shared, **k), dict(ipc=[0, -1, 5000], crops=[0], eps=[5], tiles=[2], seed=['x'])),
    'Shared': (lambda w, **k: changed(FULL_PRESET, **k), dict(budget=[0], seeds=[0], sise=[8])),
}

class World:
    "Data, a set, its labels and a network that nobody asks"
    def __init__(self):
        self.data = digits(device='cpu')
        self.syn = random_real(self.data, 2)
        self.net = create_model('convnet_bn_d1_w8', 10, 8, 1).eval()
        self.net.classes,self.net.space = self.data.classes,self.data.norm
        self.labels = relabel(self.syn, self.net, epochs=1, show=False)
        self.shared = Shared(self.data, QUICK_PRESET, 'nowhere')

@pytest.fixture(scope='module')
def world(): return World()

def rows():
    "Name, function of (world, **setting), setting, wrong value"
    for cls,fields in CLASSES.items():
        for k,bad in fields.items():
            for v in bad: yield cls.__name__,lambda w, cls=cls, **s: cls(**(GIVEN.get(cls, {}) or (dict(make=w.syn) if cls is Entry else {})) | s),k,v
    for name,(f,args) in FUNCTIONS.items():
        for k,bad in args.items():
            for v in bad: yield name,f,k,v
ROWS = list(rows())
def of(row): return f'{row[0]}-{row[2]}-{row[3]!r}'.replace(' ', '')[:60]

def refused(world, row, monkeypatch):
    "The message with which a wrong setting is refused, in less than 2 s, before any network is asked"
    def boom(*args, **kwargs): raise AssertionError('a network was asked')
    monkeypatch.setattr(torch.nn.Module, '__call__', boom)
    start = time.monotonic()
    with pytest.raises(ValueError) as e: row[1](world, **{row[2]: row[3]})
    assert time.monotonic()-start<2
    return str(e.value)

def check(world, row, monkeypatch):
    name,_,key,value = row
    text = refused(world, row, monkeypatch)
    assert key in text, f'{key} is not named: {text}'
    known = 'has no setting' in text # the name is wrong, whatever the value
    shown = [repr(value), str(value)] + ([repr(value[0])] if isinstance(value, (list, tuple)) and value else [])
    assert known or any(o in text for o in shown), f'{value!r} is not named: {text}'
    assert 'must' in text or 'did you mean' in text or 'It has' in text or 'use' in text or 'need' in text or 'between' in text, f'no remedy: {text}'
    assert '\n' not in text

def test_the_table_is_large(): assert len(ROWS)>=250 and {c.__name__ for c in CLASSES}=={c.__name__ for c in Settings.__subclasses__() if c.__module__.startswith('edf_nrr.')}

@pytest.mark.faults
@pytest.mark.parametrize('row', ROWS, ids=of)
def test_every_wrong_setting(world, row, monkeypatch, tally, request):
    if not request.config.stash['faults whole']: pytest.skip('only with all of the attack')
    score = tally.of('wrong settings', of(row).partition('.')[0].partition('-')[0])
    try: check(world, row, monkeypatch)
    except AssertionError as e:
        score.add([('not refused as it should be', str(e))], of(row))
        raise
    score.add([])

@pytest.mark.parametrize('row', ROWS[::11], ids=of)
def test_some_wrong_settings(world, row, monkeypatch): check(world, row, monkeypatch)

def test_every_field_of_every_class_is_in_the_table():
    for cls,fields in CLASSES.items():
        open_ = {Entry: {'make', 'experts', 'key'}, Preset: {'experts', 'teacher', 'settings', 'protocol'}}.get(cls, set())
        assert {f.name for f in dataclasses.fields(cls)}-open_==set(fields), cls.__name__

def unlimited(kind):
    "Does a type let a number be anything?"
    if hasattr(kind, '__metadata__'): return False
    if get_origin(kind) is None or isinstance(kind, type): return kind in (int, float, tuple, list)
    return any(unlimited(o) for o in get_args(kind) if o is not ... and not isinstance(o, str))

def test_every_number_has_limits():
    for cls in CLASSES:
        for f in dataclasses.fields(cls): assert not unlimited(f.type), f'{cls.__name__}.{f.name}: give its values an interval, as `Count` does'
    assert all(map(unlimited, (int, float|None, tuple[int,int], tuple))) and not any(map(unlimited, (bool, str|None, ExpertConfig)))

def test_defaults_are_what_fields_may_be():
    for cls in CLASSES:
        for f in dataclasses.fields(cls):
            if f.default is not dataclasses.MISSING: assert is_allowed(f.default, f.type) and type_words(f.type), f'{cls.__name__}.{f.name}'

def test_published_settings_pass_and_are_json():
    for release,name in FILES: json.dumps(dataclasses.asdict(preset(*where(name), release)), allow_nan=False)
    for p in (QUICK_PRESET, FULL_PRESET): json.dumps(dataclasses.asdict(changed(p)), allow_nan=False)
    json.dumps(dataclasses.asdict(changed(SRE2L)), allow_nan=False)
    for m in METHODS.values():
        for s in (m.quick, m.tiny, m.strong): changed(QUICK_PRESET, settings={m.name: dict(s)})

def test_what_is_near_is_offered():
    for f,hint in ((lambda: EDFConfig(iterations=1e1), 'got 10.0: write 10'), (lambda: Recipe(augment='flip'), "got 'flip': write DSA('flip')"), (lambda: EDFConfig(labels='sfot'), "did you mean 'soft'?"),
                   (lambda: Recipe(lr=torch.tensor(.5)), 'write 0.5'), (lambda: check_call(relabel, dict(epoch=3)), "did you mean 'epochs'?")):
        with pytest.raises(ValueError) as e: f()
        assert hint in str(e.value)

def test_settings_from_text_are_checked():
    for text in ('iterations=abc', 'iterations=1e1', 'momentum_img=2', 'eval_every=-3', 'max_abs=nan', 'lr_img=inf', 'beta=-1', 'lr_min=1'):
        with pytest.raises(ValueError, match=text.partition('=')[0]): EDFConfig(**parse_settings(text))
    with pytest.raises(ValueError, match='looks|look like'): parse_settings('ipc')

# ---- commands ----
def test_commands_check_before_they_load(monkeypatch, tmp_path):
    "In this process: nothing may be read or trained"
    from edf_nrr import cli
    monkeypatch.chdir(tmp_path)
    for f,args,key in ((cli.dd_experts, dict(data='digits', size=0), 'size'), (cli.dd_distill, dict(data='digits', method='herding', ipc=0), 'ipc'), (cli.dd_distill, dict(data='digits', method='rded', epochs=0), 'epochs'),
                       (cli.dd_relabel, dict(distilled='none', settings='kk=3'), 'kk'), (cli.dd_relabel, dict(distilled='none', epochs=0), 'epochs'), (cli.dd_relabel, dict(distilled='none', flip=2.), 'flip'),
                       (cli.dd_evaluate, dict(distilled='none', seeds=0), 'seeds'), (cli.dd_evaluate, dict(distilled='none', epochs=0), 'epochs'), (cli.dd_compare, dict(data='digits', budget=0), 'budget'),
                       (cli.dd_compare, dict(data='digits', size=8, quick=True, ipc=0), 'ipc'), (cli.dd_compare, dict(data='digits', quick=True, sets=0), 'sets'), (cli.dd_complexity, dict(data='digits', groups=0, k=2), 'n must'),
                       (cli.dd_demo, dict(seeds=0), 'seeds')):
        with pytest.raises(ValueError, match=key): f(**args)
    assert not list(tmp_path.iterdir())

BIN = Path(sys.executable).parent

def refused_command(args, cwd, **kwargs):
    "The one line with which a command refuses"
    r = subprocess.run([BIN/'dd', *map(str, args)], capture_output=True, text=True, cwd=cwd, **kwargs)
    assert r.returncode==1 and len(r.stderr.strip().splitlines())==1 and r.stderr.startswith(f'dd {args[0]}: '), r.stdout+r.stderr
    return r.stderr

@pytest.mark.parametrize('args,says', [
    (('experts', '--data', 'digits', '--settings', 'epochs=1e1'), 'epochs must be a whole number above 0, got 10.0: write 10'),
    (('compare', '--data', 'digits', '--quick', '--seeds', 0), 'seeds must be a whole number above 0, got 0'),
    (('compare', '--data', 'digits', '--quick', '--settings', 'teacher.epoch=3'), "did you mean 'epochs'?"),
    (('complexity', '--data', 'digits', '--k', -1), 'k must be a whole number')], ids=['settings', 'seeds', 'teacher', 'k'])
def test_commands_refuse_in_one_line(args, says, tmp_path):
    assert says in refused_command(args, tmp_path)
    assert not list(tmp_path.iterdir()), 'nothing may be made'

def test_a_path_that_is_a_file(tmp_path):
    (tmp_path/'f').write_text('')
    for path in ('f', 'f/inside'):
        assert 'f' in refused_command(('experts', '--data', 'digits', '--path', path, '--settings', 'n=1,epochs=1,arch=convnet_d1_w8'), tmp_path)

def test_a_disk_that_takes_no_more(tmp_path):
    "Files may have 2,000 bytes: the network does not fit"
    def small(): resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    text = refused_command(('experts', '--data', 'digits', '--path', 'e', '--settings', 'n=1,epochs=1,arch=convnet_d1_w8'), tmp_path, preexec_fn=small)
    assert 'File too large' in text

@pytest.mark.parametrize('error', [PermissionError(13, 'Permission denied', 'a'), OSError(28, 'No space left on device', 'a'), IsADirectoryError(21, 'Is a directory', 'a'), NotADirectoryError(20, 'Not a directory', 'a')],
                         ids=lambda o: type(o).__name__)
def test_errors_of_the_disk_are_one_line(error):
    with pytest.raises(SystemExit) as e:
        with one_line('dd f'): raise error
    assert e.value.code==f'dd f: {error}'

def test_a_finished_store_opens_on_a_full_disk(world, tmp_path, monkeypatch):
    import edf_nrr.trajectory as T
    how = dict(n=2, epochs=1, arch='convnet_d1_w8', batch_size=256, augment=None, show=False)
    record_experts(world.data, tmp_path, **how)
    free = T.store_bytes(ExpertConfig(n=1, epochs=1), sum(p.numel() for p in create_model('convnet_d1_w8', 10, 8, 1).parameters()))
    def disk(n): monkeypatch.setattr(T.shutil, 'disk_usage', lambda path: type('U', (), dict(free=n)))
    disk(0)
    assert len(record_experts(world.data, tmp_path, **how))==2
    (tmp_path/'expert_0001.safetensors').unlink()
    with pytest.raises(ValueError, match='bfloat16'): record_experts(world.data, tmp_path, **how)
    disk(free)
    assert len(record_experts(world.data, tmp_path, **how))==2
