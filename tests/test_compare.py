"Comparisons that are stopped, other networks, labels that are finished, what is refused"
import json,signal,subprocess,sys,textwrap
import numpy as np, pytest, torch
from edf_nrr.report import Comparison
from edf_nrr.compare import COLUMNS, CROSS, Entry, Protocol, compare, everything, train_and_test
from edf_nrr.core import Distilled
from edf_nrr.datasets import digits
from edf_nrr.dbr import label_views, relabel
from edf_nrr.models import create_model
from edf_nrr.training import random_real, train_teacher

ARCH = 'convnet_d1_w8'
P = Protocol(batch_size=16, lrs=(.05,), soft_lrs=(.02,), flip=0., augment=None, checks=2)

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def teacher(data): return train_teacher(data, 'convnet_bn_d1_w8', epochs=5, lr=1e-2, augment=None, show=False)

def without_times(rows): return [{k: v for k,v in r.items() if not k.startswith('seconds')} for r in rows]

SCRIPT = textwrap.dedent('''
    import os,signal,sys
    import edf_nrr.compare as C
    from edf_nrr.datasets import digits
    from edf_nrr.training import random_real
    data,left = digits(device='cpu'),int(sys.argv[2])
    train = C.train_and_test
    def counted(*args, **kwargs):
        global left
        if left==0: os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        print('trained', flush=True)
        return train(*args, **kwargs)
    C.train_and_test = counted
    P = C.Protocol(batch_size=16, lrs=(.02, .05), augment=None, checks=2)
    C.compare(data, {'a': lambda s: random_real(data, 1, s+50), 'b': lambda s: random_real(data, 1, s+90)}, 'convnet_d1_w8', ['hard'], 2, 10, P, sys.argv[1], show=False).save(sys.argv[1]+'/c.json')
''')

def run(path, left):
    r = subprocess.run([sys.executable, '-c', SCRIPT, str(path), str(left)], capture_output=True, text=True)
    return r.returncode,r.stdout.count('trained'),r.stderr

def test_killed_goes_on_and_ends_with_the_same_rows(tmp_path):
    code,all_of,err = run(tmp_path/'whole', -1)
    assert code==0, err
    assert all_of==16 # four rows of two learning rates and two seeds
    code,first,_ = run(tmp_path/'killed', 5)
    assert (code, first)==(-signal.SIGKILL, 5) and not (tmp_path/'killed/c.json').exists()
    code,rest,err = run(tmp_path/'killed', -1)
    assert code==0, err
    assert rest==all_of-5
    a,b = (Comparison.load(tmp_path/o/'c.json') for o in ('whole', 'killed'))
    assert without_times(a.rows)==without_times(b.rows)

def test_more_seeds_entries_and_columns_train_only_those(data, teacher, tmp_path, monkeypatch):
    import edf_nrr.compare as C
    calls = []
    monkeypatch.setattr(C, 'train_and_test', lambda *a, **k: (calls.append(1), train_and_test(*a, **k))[1])
    e = {'a': lambda s: random_real(data, 1, s+50)}
    def go(entries=e, columns=('hard',), seeds=2): calls.clear(); return compare(data, dict(entries), ARCH, columns, seeds, 6, P, tmp_path, teacher, full=False, show=False),len(calls)
    first,n = go(); assert n==4
    assert go()[1]==0
    again,n = go(seeds=[1, 0, 5]); assert n==2
    assert again['a','hard']['accuracy'][:2]==first['a','hard']['accuracy'][::-1]
    assert go(columns=('hard', 'plain'))[1]==0 # without augmentation both are one recipe
    assert go(columns=('hard', 'soft'))[1]==4
    other = train_teacher(data, 'convnet_bn_d1_w8', epochs=4, lr=1e-2, augment=None, show=False)
    calls.clear(); compare(data, dict(e), ARCH, ['hard', 'soft'], 2, 6, P, tmp_path, other, full=False, show=False)
    assert len(calls)==4 # what another teacher says is another recipe
    assert go(entries=e | {'b': lambda s: random_real(data, 1, s+70)})[1]==2

def test_other_networks(data, teacher):
    pytest.importorskip('timm')
    for a in CROSS: create_model(a, 10, 32)
    c = compare(data, {'a': random_real(data, 1)}, [ARCH, 'resnet18_cifar', 'vit_tiny_cifar'], ['hard'], 1, 2, P, teacher=teacher, full=False, show=False)
    assert c.archs==[ARCH, 'resnet18_cifar', 'vit_tiny_cifar'] and len(c.rows)==6
    assert c.markdown().count('| random real |')==3

def test_finished_labels(data, teacher, monkeypatch):
    syn = random_real(data, 2, 9)
    labels = relabel(syn, teacher, 'topk', epochs=10, views=label_views(syn, 0, flip=0.), k=3, show=False)
    c = compare(data, {'mine': (syn, labels)}, ARCH, ['own'], 2, 20, P, teacher=teacher, full=False, show=False)
    assert c['mine','own']['bytes']==20*64*1+labels.nbytes # digits come back from eight bits
    matched = random_real(data, 2, 1)
    like = relabel(matched, teacher, 'topk', epochs=10, views=label_views(matched, 1, flip=0.), k=3, show=False)
    from edf_nrr.dbr import evaluate_labels, labels_recipe
    by_hand = evaluate_labels(matched, like, data, ARCH, [1], labels_recipe(matched, 10, batch_size=16, lr=.02))
    assert c['mine','own']['random'][1]==by_hand.last[0]
    monkeypatch.setattr('edf_nrr.compare.train_teacher', lambda *args, **kwargs: teacher)
    alone = compare(data, {'mine': (syn, labels)}, ARCH, ['own'], 2, 20, P, full=False, show=False) # random real images need a teacher too
    assert without_times(alone.rows)==without_times(c.rows)
    with pytest.raises(ValueError, match='30 steps are 15 epochs of mine, there are labels of 10: lower the budget'): compare(data, {'mine': (syn, labels)}, ARCH, ['own'], 2, 30, P, teacher=teacher, show=False)
    with pytest.raises(ValueError, match='belong to one set, not to a function'): Entry(lambda s: syn, labels)

def test_sets_of_different_size_have_their_own_random_row(data):
    c = compare(data, {'one': random_real(data, 1, 7), 'three': random_real(data, 3, 7)}, ARCH, ['hard'], 1, 5, P, full=False, show=False)
    assert c.methods==['random real, 1 a class', 'random real, 3 a class', 'one', 'three']
    assert c.random_of(c['three','hard'])==c['random real, 3 a class','hard']['accuracy']
    assert [c[m,'hard']['steps'] for m in ('one', 'three')]==[5, 4] # an epoch of three images a class is two steps of 16

def test_learning_rate_of_all_images_is_judged_by_unseen_ones(data, monkeypatch):
    import edf_nrr.compare as C
    seen = []
    monkeypatch.setattr(C, 'train_and_test', lambda syn, how, d, *a, **k: (seen.append((len(syn), len(d.test))), train_and_test(syn, how, d, *a, **k))[1])
    whole = []
    monkeypatch.setattr(C, 'everything', lambda d: (whole.append(len(d.train)), everything(d))[1])
    compare(data, {'a': random_real(data, 1)}, [ARCH, 'convnet_d1_w4'], ['hard'], 1, 3, Protocol(batch_size=16, lrs=(.01, .1), augment=None), show=False)
    assert len(whole)==len(set(whole))==2 # all images, and all but the held out: made once for all networks
    n,held = len(data.train),len(data.validation(.1, seed=0).test)
    assert (n-held, held) in seen and (n, held) not in seen and (n, len(data.test)) in seen

def test_bad_sets_and_teachers_are_refused(data, teacher, tmp_path):
    syn = random_real(data, 1)
    white = data.whiten()
    for message,entries,kw in (('another input space', {'a': random_real(white, 1)}, {}), (r'images of \(1, 16, 16\)', {'a': Distilled(torch.zeros(10, 1, 16, 16), syn.labels, syn.classes, syn.norm)}, {}),
                               ('seeds must differ', {'a': syn}, dict(seeds=[1, 1])), ('another input space', {'a': random_real(white, 1)}, dict(data=white, teacher=teacher))):
        with pytest.raises(ValueError, match=message): compare(**{**dict(data=data, entries=entries, arch=ARCH, show=False), **kw})
    def made_elsewhere(seed): return random_real(white, 1, seed)
    with pytest.raises(ValueError, match='late has another input space'): compare(data, {'late': made_elsewhere}, ARCH, ['hard'], 1, 2, P, tmp_path, show=False)
    assert not list(tmp_path.glob('sets/*'))

def pixels_of(s): return {o.cpu().numpy().tobytes() for o in (s.pixels()*255).round().to(torch.uint8)}

def test_images_of_a_set_do_not_judge_its_learning_rate(data, monkeypatch):
    import edf_nrr.compare as C
    seen = []
    monkeypatch.setattr(C, 'train_and_test', lambda syn, how, d, *a, **k: (seen.append((syn, d)), train_and_test(syn, how, d, *a, **k))[1])
    two = Protocol(batch_size=16, lrs=(.01, .05), augment=None, checks=2)
    compare(data, {'a': random_real(data, 20, 7)}, ARCH, ['hard'], 1, 3, two, full=False, show=False)
    held = {o.numpy().tobytes() for o in data.validation(.1, seed=0).test.raw()}
    judges = [(s, d) for s,d in seen if len(d.test)<len(data.test)]
    assert len(judges)==4 and all(pixels_of(s)&held for s,_ in judges) # the sets hold some held-out images
    for s,d in judges: assert not pixels_of(s)&{o.numpy().tobytes() for o in d.test.raw()}

def test_matched_random_images_are_labelled_by_the_experts_of_the_entry(data, teacher, monkeypatch):
    import edf_nrr.compare as C
    from edf_nrr.training import mean_logits
    nets = [create_model('convnet_d1_w8', 10, 8, 1, seed=s).eval() for s in (1, 2)]
    x = random_real(data, 1, 3)
    syn = Distilled(x.images, x.labels, x.classes, x.norm, mean_logits(nets, x.images), lr=.05)
    seen = []
    monkeypatch.setattr(C, 'train_and_test', lambda syn, *a, **k: (seen.append(syn), train_and_test(syn, *a, **k))[1])
    monkeypatch.setattr(C, 'train_teacher', lambda *a, **k: pytest.fail('no teacher is needed'))
    c = compare(data, {'mine': Entry(syn, experts=lambda: nets)}, ARCH, ['own'], 2, 6, P, full=False, show=False)
    twins = [s for s in seen if s.logits is not None and s.provenance.get('method')=='random real']
    for s in twins: assert torch.allclose(s.logits, mean_logits(nets, s.images), atol=1e-5)
    assert len(twins)==2 and not torch.equal(twins[0].images, twins[1].images) # another draw a seed
    assert c['mine','own']['random_labels']=='experts'
    by_teacher = compare(data, {'mine': syn}, ARCH, ['own'], 2, 6, P, teacher=teacher, full=False, show=False)
    assert by_teacher['mine','own']['random_labels']=='teacher' and by_teacher['mine','own']['random']!=c['mine','own']['random']

def test_rows_say_how_many_sets_and_which_choices(data, teacher):
    def made(seed): return random_real(data, 1, seed+40)
    start = dict(start=dict(config=dict(select='low')))
    def crops(seed): return Distilled(*(getattr(made(seed), k) for k in ('images', 'labels', 'classes', 'norm')), provenance=start)
    from edf_nrr.dbr import StudentLoss
    entries = {'given': made(0), 'each': made, 'shared': Entry(made, sets=1), 'nrr': Entry(crops, dict(kind='distances'), loss=StudentLoss(match='l1'))}
    c = compare(data, entries, ARCH, ['own'], 3, 3, P, teacher=teacher, show=False)
    assert {m: c[m,'own']['sets'] for m in c.methods}=={'random real': 3, 'given': 1, 'each': 3, 'shared': 1, 'nrr': 3, 'full data': 1}
    assert c['nrr','own']['note']=='low confidence, l1 loss' and c['each','own']['note']==''
    text = c.markdown()
    assert '| nrr (low confidence, l1 loss) | 1 | 3 |' in text and 'the intervals of given, shared cover students' in text

def test_rows_and_what_is_said_of_them(data, teacher, tmp_path):
    c = compare(data, {'a': random_real(data, 1, 3)}, ARCH, COLUMNS, 2, 4, P, teacher=teacher, show=False)
    c.report(tmp_path)
    d = json.loads((tmp_path/'comparison.json').read_text())
    for r in d['rows']: assert len(r['accuracy'])==len(r['seeds'])==len(r['curve'])==len(r['lr'])==2
    assert {'protocol', 'versions', 'budget', 'sets', 'seconds'}<=d.keys()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_cuda():
    data = digits(device='cuda')
    c = compare(data, {'a': random_real(data, 1)}, ARCH, ['hard', 'soft'], 2, 60, P, show=False)
    assert np.mean(c['full data','hard']['accuracy'])>.5

def test_seconds_are_those_of_the_device(data, monkeypatch):
    "Both clocks, of training and of the looks at test images, wait for it"
    import edf_nrr.compare as C, edf_nrr.dbr as D
    now,calls = [0.],[]
    def clock(device): calls.append(device); now[0] += 1; return now[0]
    for m in (C, D): monkeypatch.setattr(m, 'clock', clock)
    r = train_and_test(random_real(data, 1), C.student_recipe('hard', Entry(random_real(data, 1)), random_real(data, 1), P).with_lr(.05), data, ARCH, 0, 4, P)
    assert calls==[data.device]*6 and r['seconds']==5-2
