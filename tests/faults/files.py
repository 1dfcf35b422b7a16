"""Every kind of file that the library reads. To add one: a class with `@file_type`

`make` writes an intact folder, `load` reads it as the library does (for a checkpoint: the run goes on), `at` is the file that is damaged,
a pattern in the folder. What `load` gives is compared with what it gave before.

`legal`: changes by the library's own writer that make another proper file, such as a set without its learning rate. They are left out.
`refusals`: what a refusal says besides the file's name where the file is sound by itself, and fits nothing.
`most`: so many ways of damage at most, where a load is a run of a command.
`sealed`: whether its contents are under a digest: if not, a changed number cannot be told from a right one.
"""
import os
from pathlib import Path
from faults.commands import COMMANDS
from faults.watch import Watch

FILES = {}

def file_type(cls):
    FILES[cls.__name__] = cls
    return cls

class FileType:
    at,legal,refusals,most,sealed = '',(),(),None,True

def killed(before, command, *args, **settings):
    "Run a command in a fork that ends before the first file operation whose name holds `before`"
    pid = os.fork()
    if pid==0:
        Watch(args[1], at=before)
        try: COMMANDS[command](*args, **settings)
        finally: os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status==137, f'{command} did not come to {before!r}'

# ---- distilled sets ----
class SetFile(FileType):
    at = 'set.safetensors'
    legal = 'missing logits','float64 for images','float64 for logits','float64 for norm','float32 for norm.eps','meta.lr','meta.provenance={}','meta.provenance=None','meta.provenance.','meta.classes.0','history.'
    def make(w, d): w.hard.save(d/'set.safetensors')
    def load(w, d):
        from edf_nrr.core import Distilled
        return Distilled.load(d/'set.safetensors')

@file_type
class set_hard(SetFile): pass

@file_type
class set_soft(SetFile):
    def make(w, d): w.soft.save(d/'set.safetensors')

@file_type
class set_zca(SetFile):
    def make(w, d): w.zca_set.save(d/'set.safetensors')

# ---- labels and teachers ----
class LabelFile(FileType):
    at,how = 'labels.safetensors',{}
    legal = 'drop a row of d','double d','meta.d_max','meta.views.seed','meta.views.flip=0.5','meta.views.ratio.0=0.5'
    refusals = 'made for another set','made for classes','the views are of'
    @classmethod
    def make(cls, w, d):
        from edf_nrr.dbr import relabel
        relabel(w.hard, w.teacher, path=d/'labels.safetensors', epochs=3, show=False, **cls.how)
    def load(w, d):
        from edf_nrr.dbr import Labels
        labels = Labels.load(d/'labels.safetensors')
        labels.check(w.hard, labels.epochs)
        return labels

@file_type
class labels_hard(LabelFile): how = dict(kind='hard')

@file_type
class labels_distances(LabelFile): how = dict(kind='distances')

@file_type
class labels_bytes(LabelFile): how = dict(kind='distances', dtype='uint8')

@file_type
class labels_soft(LabelFile): how = dict(kind='soft')

@file_type
class labels_topk(LabelFile): how,legal = dict(kind='topk'),LabelFile.legal[2:]

@file_type
class labels_components(LabelFile): how = dict(kind='components')

@file_type
class teacher(FileType):
    at,legal = 'teacher.safetensors',('meta.accuracy=0.5', 'meta.made_with', 'float64 for space', 'num_batches_tracked', 'meta.accuracy=None', 'meta.classes.0')
    def make(w, d):
        from edf_nrr.teachers import save_teacher
        save_teacher(w.teacher, d/'teacher.safetensors')
    def load(w, d):
        from edf_nrr.teachers import load_teacher
        return load_teacher(d/'teacher.safetensors')

# ---- experts ----
class StoreFile(FileType):
    def make(w, d): COMMANDS['record'](w, d/'run')
    def load(w, d):
        from edf_nrr.trajectory import Experts
        return Experts(d/'run')

@file_type
class expert(StoreFile): at = 'run/expert_0000.safetensors'

@file_type
class experts_json(StoreFile): at = 'run/experts.json'

class RecordingFile(FileType):
    "A recording that was killed goes on"
    most = 80
    def make(w, d): killed('epoch_0002', 'record', w, d/'run', n=1)
    def load(w, d): return COMMANDS['record'](w, d/'run', n=1)

@file_type
class recording_state(RecordingFile): at = 'run/*.part/state*'

@file_type
class recording_epoch(RecordingFile): at = 'run/*.part/epoch_0001*'

@file_type
class recording_json(RecordingFile): at,refusals = 'run/experts.json',('another recipe',)

# ---- checkpoints of runs, and what they say of themselves ----
def run_files(command, first, then):
    "Two types: `state.safetensors` and `config.json` of a command that stops, and goes on with other settings"
    def make(w, d): COMMANDS[command](w, d/'run', **first)
    def load(w, d): return COMMANDS[command](w, d/'run', **then)
    both = dict(make=make, load=load, most=80)
    legal = 'meta.graphs','meta.skipped'
    file_type(type(f'state_{command}', (FileType,), dict(both, at='run/state.safetensors', legal=legal)))
    file_type(type(f'config_{command}', (FileType,), dict(both, at='run/config.json', refusals=('another configuration',))))

run_files('edf_often', dict(iterations=2), dict(iterations=3))
run_files('dm', dict(iterations=3), dict(iterations=5))
run_files('refine', {}, {})
run_files('complexity', {}, {})

@file_type
class state_refine_half(FileType):
    "A refinement that was killed in its second group"
    at,most = 'run/state.safetensors',80
    def make(w, d):
        def stop(seen): return sum('replace' in o and 'state' in o for o in seen)==2
        killed(stop, 'refine', w, d/'run')
    def load(w, d): return COMMANDS['refine'](w, d/'run')

# ---- comparisons ----
class CompareFile(FileType):
    refusals,most = ('another configuration',),80
    def make(w, d): COMMANDS['compare'](w, d/'run')
    def load(w, d): return COMMANDS['compare'](w, d/'run')

@file_type
class compare_set(CompareFile): at,legal = 'run/sets/*.safetensors',SetFile.legal

@file_type
class compare_set_note(CompareFile): at,legal = 'run/sets/*.json',('seconds',)

@file_type
class compare_student(CompareFile): at,legal = 'run/students/*.json',('seconds', 'label_bytes', 'accuracy=0.5', 'steps', 'curve={}')

@file_type
class compare_config(CompareFile): at = 'run/config.json'

@file_type
class comparison(FileType):
    at,legal = 'run/comparison.json',('',)
    def make(w, d): COMMANDS['compare'](w, d/'run')
    def load(w, d):
        from edf_nrr.report import Comparison
        c = Comparison.load(d/'run'/'comparison.json')
        return c,c.markdown(),c.page()

@file_type
class results(FileType):
    at,sealed,legal = 'results.json',False,('',)
    refusals = ('has no row',)
    def make(w, d):
        from edf_nrr.basics import write_results
        row = dict(method='mine', ipc=1, arch='convnet', labels='hard', accuracy=[.5, .625])
        write_results(d/'results.json', [row, dict(row, method='random', accuracy=[.25, .375])], 3., 'mine --twice')
    def load(w, d):
        from edf_nrr.basics import results_table
        return results_table(d/'results.json', against='random').data

# ---- exports ----
class ExportFile(FileType):
    format,legal = 'png',('lr', 'provenance', 'loss', 'format', 'classes.0')
    refusals = ('pixels, labels or logits are not',) # said of the export: it cannot be told which of its files is another
    @classmethod
    def make(cls, w, d): cls.source(w).export(d/'out', cls.format)
    def source(w): return w.soft
    def load(w, d):
        from edf_nrr.export import load_export
        return load_export(d/'out')

@file_type
class export_index(ExportFile): at = 'out/distilled.json'

@file_type
class export_image(ExportFile): at = 'out/*/*.png'

@file_type
class export_webp(ExportFile): at,format = 'out/*/*.webp','webp'

@file_type
class export_rows(ExportFile): at,format = 'out/data/*.parquet','parquet'

@file_type
class export_set(ExportFile): at,format,legal = 'out/distilled.safetensors','safetensors',SetFile.legal

@file_type
class export_space(ExportFile):
    at = 'out/space.safetensors'
    def source(w): return w.zca_set

def damaged_file(kind, folder):
    "The file of a type that is damaged: the first that the pattern finds"
    found = sorted(Path(folder).glob(kind.at))
    assert found, f'{kind.__name__}: there is no {kind.at}, only {sorted(o.name for o in Path(folder).rglob("*"))}'
    return found[0]
