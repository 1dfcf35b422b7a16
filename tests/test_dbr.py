"Labels of views: faults and promises"
import subprocess,sys
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file, save_file
from edf_nrr.augment import Views
from edf_nrr.core import Distilled, Normalize
from edf_nrr.datasets import digits
from edf_nrr.dbr import Labels, Online, StudentLoss, distilled_id, evaluate_labels, label_kind
from edf_nrr.dbr import LabelKind, label_kinds, label_views, labels_recipe, mixed_views, relabel
from edf_nrr.dbr import train_from_labels
from edf_nrr.models import create_model
from edf_nrr.training import random_real

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def syn(data): return random_real(data, 2)

@pytest.fixture(scope='module')
def teacher(data):
    net = create_model('convnet_d1_w8', 10, 8, 1, seed=1)
    net.classes = list(data.classes)
    return net

def other_set(syn, **changes):
    "The same set but for some changes"
    kw = dict(images=syn.images, labels=syn.labels, classes=syn.classes, norm=syn.norm)
    return Distilled(**{**kw, **changes})

# ---- who the labels belong to ----
@pytest.mark.parametrize('change', [dict(images=lambda s: s.images+1e-3), dict(images=lambda s: s.images.flip(0)), dict(labels=lambda s: s.labels.flip(0))])
def test_labels_of_another_set(syn, teacher, change):
    labels,other = relabel(syn, teacher, epochs=2),other_set(syn, **{k: f(syn) for k,f in change.items()})
    with pytest.raises(ValueError, match='another set'): train_from_labels(other, labels, 'convnet_d1_w8')

def test_labels_of_other_classes(syn, teacher, data):
    labels,other = relabel(syn, teacher, epochs=2),other_set(syn, classes=syn.classes[::-1])
    with pytest.raises(ValueError, match='order and names'): train_from_labels(other, labels, 'convnet_d1_w8')
    with pytest.raises(ValueError, match='order and names'): evaluate_labels(other, labels, data, 'convnet_d1_w8')

def test_labels_survive_saving_the_set(syn, teacher, tmp_path):
    syn.save(tmp_path/'syn.safetensors')
    assert distilled_id(Distilled.load(tmp_path/'syn.safetensors'))==distilled_id(syn)

def test_teacher_of_other_classes(syn, data):
    net = create_model('convnet_d1_w8', 10, 8, 1)
    net.classes = data.classes[::-1]
    with pytest.raises(ValueError, match='teacher was made for classes'): relabel(syn, net, epochs=1)

@pytest.mark.parametrize('kind', ['hard', 'distances', 'soft'])
def test_teacher_of_more_outputs(syn, kind):
    with pytest.raises(ValueError, match='12 outputs'): relabel(syn, create_model('convnet_d1_w8', 12, 8, 1), kind, epochs=1)

# ---- what is asked ----
@pytest.mark.parametrize('kw,match', [(dict(kind='logits'), 'import edf_nrr.codes to add topk'), (dict(epochs=0), 'above 0'),
    (dict(dtype='int4'), 'uint8'), (dict(views=Views(0, 16)), 'label_views'), (dict(d_max=0.), 'd_max'), (dict(epochs=10**14), 'are free')])
def test_relabel_errors(syn, teacher, kw, match):
    with pytest.raises(ValueError, match=match): relabel(syn, teacher, **{**dict(epochs=1), **kw})

@pytest.mark.parametrize('kw,match', [(dict(match='l3'), 'smooth_l1'), (dict(rest='all'), 'spread'), (dict(alpha=-1.), 'alpha'), (dict(temperature=0.), 'temperature')])
def test_loss_errors(kw, match):
    with pytest.raises(ValueError, match=match): StudentLoss(**kw)

def test_more_epochs_than_labels(syn, teacher):
    labels = relabel(syn, teacher, epochs=3)
    with pytest.raises(ValueError, match='labels of 3'): train_from_labels(syn, labels, 'convnet_d1_w8', recipe=labels_recipe(syn, 4))
    m = mixed_views(syn, labels.views, 0, [0])
    for e in (-1, 3):
        with pytest.raises(ValueError, match=f'epoch {e}'): labels.target(e, [0], m)

def test_fewer_epochs_use_the_first_labels(syn, teacher):
    long,short = (relabel(syn, teacher, epochs=e) for e in (4, 2))
    assert torch.equal(long.d[:2], short.d)

def test_teacher_without_finite_answers(syn):
    net = create_model('convnet_d1_w8', 10, 8, 1)
    net.classifier.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match='gives nan'): relabel(syn, net, epochs=1)

def students_of_a_sure_teacher_stay_finite(syn, kind):
    net = create_model('convnet_d1_w8', 10, 8, 1)
    net.classifier.weight.data *= 1e6
    labels = relabel(syn, net, kind, epochs=2)
    assert labels.d.isfinite().all() and (kind in ('soft', 'components') or labels.d.max()<=10)
    for match in ('l1', 'kl'):
        student = train_from_labels(syn, labels, 'convnet_d1_w8', loss=StudentLoss(match=match))
        assert all(p.isfinite().all() for p in student.parameters())

@pytest.mark.parametrize('kind', ['distances', 'soft'])
def test_sure_teacher_stays_finite(syn, kind): students_of_a_sure_teacher_stay_finite(syn, kind)

def test_teacher_is_left_as_it_was(syn):
    net = create_model('convnet_bn_d1_w8', 10, 8, 1).train()
    before = {k: v.clone() for k,v in net.state_dict().items()}
    relabel(syn, net, epochs=1)
    assert net.training and all(torch.equal(v, before[k]) for k,v in net.state_dict().items())

def test_global_seed_is_not_touched(syn, teacher):
    torch.manual_seed(3); a = torch.rand(2)
    torch.manual_seed(3); train_from_labels(syn, relabel(syn, teacher, epochs=1), 'convnet_d1_w8'); b = torch.rand(2)
    assert torch.equal(a, b)

def test_two_classes():
    "Both classes are the label's own: nothing is left for the third bin"
    syn = Distilled(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)%2, ['a', 'b'], Normalize([0.], [1.]))
    labels = relabel(syn, create_model('convnet_d1_w8', 2, 8, 1), epochs=3)
    net = train_from_labels(syn, labels, 'convnet_d1_w8', loss=StudentLoss(match='kl'))
    assert all(p.isfinite().all() for p in net.parameters())

# ---- files ----
def test_file_of_something_else(syn, tmp_path):
    syn.save(tmp_path/'x.safetensors')
    with pytest.raises(ValueError, match='holds a distilled set, not labels'): Labels.load(tmp_path/'x.safetensors')

def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError): Labels.load(tmp_path/'x.safetensors')

@pytest.mark.parametrize('keep', [.3, .9])
def test_truncated_file(syn, teacher, tmp_path, keep):
    f = tmp_path/'x.safetensors'
    relabel(syn, teacher, epochs=5, path=f)
    b = f.read_bytes()
    f.write_bytes(b[:int(len(b)*keep)])
    with pytest.raises(ValueError, match='damaged'): Labels.load(f)

def rewrite(f, change):
    from safetensors import safe_open
    with safe_open(str(f), 'pt') as o: meta = o.metadata()
    t = load_file(f)
    change(t)
    save_file(t, f, meta)

@pytest.mark.parametrize('change', [lambda t: t.update(d=t['d'][:,:,:1].contiguous()), lambda t: t.pop('d'),
    lambda t: t.update(classes=t['d'].byte()), lambda t: t.update(d=t['d'].int())])
def test_changed_file(syn, teacher, tmp_path, change):
    f = tmp_path/'x.safetensors'
    relabel(syn, teacher, epochs=2, path=f)
    rewrite(f, change)
    with pytest.raises(ValueError, match='x.safetensors'): Labels.load(f)

def stored_labels_hold_in_another_process(syn, teacher, tmp_path, kind, module='dbr'):
    "The views are made again from numbers in the file alone"
    syn.save(tmp_path/'syn.safetensors')
    labels = relabel(syn, teacher, kind, epochs=2, path=tmp_path/'l.safetensors', seed=11)
    src = f'''if 1:
        import torch, edf_nrr.{module}
        from edf_nrr.core import Distilled
        from edf_nrr.dbr import Labels, train_from_labels
        syn,labels = Distilled.load({str(tmp_path/"syn.safetensors")!r}),Labels.load({str(tmp_path/"l.safetensors")!r})
        net = train_from_labels(syn, labels, 'convnet_d1_w8', 4)
        print(repr(sum(p.double().sum() for p in net.parameters()).item()))'''
    out = subprocess.run([sys.executable, '-c', src], capture_output=True, text=True, check=True).stdout
    here = train_from_labels(syn, labels, 'convnet_d1_w8', 4)
    assert float(out)==sum(p.double().sum() for p in here.parameters()).item()

def test_stored_labels_hold_in_another_process(syn, teacher, tmp_path):
    stored_labels_hold_in_another_process(syn, teacher, tmp_path, 'distances')

@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_a_large_store_is_read_where_it_lies(tmp_path): a_large_store_is_read_where_it_lies(tmp_path, 'soft')

def a_large_store_is_read_where_it_lies(tmp_path, kind, module='dbr'):
    "Memory of its own hardly grows while a student reads a store of 300 MB, and the file is mapped"
    d = torch.rand(500, 1000, 300 if kind=='soft' else 200).half()
    classes = torch.zeros(d.shape, dtype=torch.uint8) if kind=='topk' else None
    Labels(kind, Views(0, 8), d, classes, [str(i) for i in range(300)], 'x'*32).save(tmp_path/'l.safetensors')
    src = f'''if 1:
        import torch, edf_nrr.{module}
        from pathlib import Path
        from edf_nrr.dbr import Labels, Mixed
        m = Mixed(torch.zeros(100, 1), torch.zeros(100, 2, dtype=torch.int64), torch.zeros(100))
        def own(): return next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('RssAnon'))
        def read(labels, e): return sum(labels.target(e, idx, m).d.double().sum() for idx in torch.arange(1000).split(100)).item()
        read(Labels('soft', None, torch.rand(1, 1000, 300).half(), None, [str(i) for i in range(300)], ''), 0)
        before = own()
        labels = Labels.load({str(tmp_path/"l.safetensors")!r})
        opened,some = own(),[read(labels, e) for e in range(0, 500, 5)]
        print(opened-before, own()-before, some[7])'''
    opened,after,value = map(float, subprocess.run([sys.executable, '-c', src], capture_output=True, text=True, check=True).stdout.split())
    assert (tmp_path/'l.safetensors').stat().st_size>290e6
    assert opened<20_000 and after<40_000, f'{opened/1e3:.0f} MB after opening, {after/1e3:.0f} MB after reading' # kB
    assert value==pytest.approx(d[35].double().sum().item(), rel=1e-9)

def test_online_checks_too(syn, teacher):
    online = Online(syn, teacher, epochs=2)
    with pytest.raises(ValueError, match='labels of 2'): train_from_labels(syn, online, 'convnet_d1_w8', recipe=labels_recipe(syn, 3))
    with pytest.raises(ValueError, match='another set'): train_from_labels(other_set(syn, images=syn.images+1), online, 'convnet_d1_w8')

def test_views_of_the_store_count(syn, teacher):
    a,b = (relabel(syn, teacher, epochs=1, views=label_views(syn, s)) for s in (0, 1))
    assert not torch.equal(a.d, b.d)

def test_a_kind_of_ones_own_needs_no_more_than_its_width_and_its_numbers(syn, teacher, tmp_path):
    @label_kind('probability')
    class Probability(LabelKind):
        def width(self, n_classes, k): return 1
        def pack(self, logits, own, how): return logits.softmax(1).gather(1, own[:,:1]).half(),None
        def loss(self, how, logits, t): return (logits.softmax(1).gather(1, t.own[:,:1])-t.d).abs().mean()
    try:
        labels = relabel(syn, teacher, 'probability', epochs=2, path=tmp_path/'l.safetensors')
        assert labels.d.shape==(2, 20, 1) and torch.equal(Labels.load(tmp_path/'l.safetensors').d, labels.d)
        assert labels.name=='probability float16'
        train_from_labels(syn, labels, 'convnet_d1_w8')
    finally: del label_kinds['probability']
    with pytest.raises(ValueError, match=r"l.safetensors is not labels.*unknown kind of label 'probability', known are \['hard', 'distances', 'soft'"):
        Labels.load(tmp_path/'l.safetensors')

# ---- what the same bits need ----
def test_dropout_comes_from_the_student_seed(syn, teacher):
    def net(n, s, c): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(.5), torch.nn.Linear(c*s*s, n))
    labels = relabel(syn, teacher, epochs=3)
    def weights(seed): return train_from_labels(syn, labels, net, seed)[2].weight
    torch.manual_seed(3)
    a,state = weights(1),torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(a, weights(1))

def test_labels_say_what_they_were_made_with(syn, teacher, tmp_path):
    f = tmp_path/'l.safetensors'
    labels = relabel(syn, teacher, epochs=1, path=f)
    assert labels.made==Labels.load(f).made and labels.made['threads']==torch.get_num_threads()

@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_rows_of_labels_find_their_place(syn, teacher, batch_size):
    "In every epoch those of `distances` for the same views, as a batch of all gives them"
    labels = relabel(syn, teacher, 'soft', 3, dtype='float32', batch_size=batch_size)
    for e in range(3):
        m = mixed_views(syn, labels.views, e, range(len(syn)))
        assert torch.allclose(labels.d[e], -teacher(m.x).log_softmax(1).detach(), atol=1e-5)
