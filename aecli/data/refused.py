"""Formats that aecli does not read, and the commands that convert them."""

import json
import shlex
from pathlib import Path

from aecli.data.places import Where
from aecli.errors import DataError

# What it is, the Python code that converts it to a format that aecli reads, and the ending of the result.
REFUSED = {
    "hdf5": (
        "an HDF5 file",
        "import pandas; pandas.read_hdf({source}).to_parquet({made})",
        ".parquet",
    ),
    "xlsx": (
        "a spreadsheet",
        "import pandas; pandas.read_excel({source}).to_csv({made}, index=False)",
        ".csv",
    ),
    "sqlite": (
        "an SQLite database",
        'import pandas, sqlite3; pandas.read_sql("select * from TABLE", sqlite3.connect({source})).to_parquet({made})',
        ".parquet",
    ),
    "matlab": (
        "a MATLAB file",
        'import numpy, scipy.io; numpy.save({made}, scipy.io.loadmat({source})["NAME"])',
        ".npy",
    ),
    "pickle": (
        "a pickle",
        "import pandas; pandas.read_pickle({source}).to_parquet({made})",
        ".parquet",
    ),
    "orc": ("an ORC file", "import pandas; pandas.read_orc({source}).to_parquet({made})", ".parquet"),
    "stata": ("a Stata file", "import pandas; pandas.read_stata({source}).to_parquet({made})", ".parquet"),
    "structured": (
        "an array of records",
        "import numpy, pandas; pandas.DataFrame(numpy.load({source})).to_parquet({made})",
        ".parquet",
    ),
    "sparse": (
        "a sparse matrix",
        "import numpy, scipy.sparse; numpy.save({made}, scipy.sparse.load_npz({source}).toarray())",
        ".npy",
    ),
    "objects": (
        "an NPY file of Python objects",
        "import numpy; numpy.save({made}, numpy.load({source}, allow_pickle=True).astype(float))",
        ".numbers.npy",
    ),
}
REFUSED["xls"] = REFUSED["xlsx"]
OTHER = {
    "rds": ("a file of R", "Rscript -e 'write.csv(readRDS({source}), {made}, row.names=FALSE)'"),
    "rdata": ("a file of R", "Rscript -e 'load({source}); write.csv(NAME, {made}, row.names=FALSE)'"),
    "tar": ("a tar archive", "tar xOf {word} NAME | aecli COMMAND ... -"),
    "zip": ("a zip archive inside another", "unzip it first"),
    "pdf": ("a PDF file", "extract its tables first"),
    "avro": ("an Avro file", "write it as Parquet first"),
}
TRUSTED = ("pickle", "objects")
ALSO = {"hdf5": """python -c 'import h5py, numpy; numpy.save({array}, h5py.File({source})["NAME"][:])'"""}


IMAGES = {
    "fits": ("a FITS image", "from astropy.io import fits", "fits.getdata(f)"),
    "dicom": ("a DICOM image", "import pydicom", "pydicom.dcmread(f).pixel_array"),
    "nifti": ("a NIfTI volume", "import nibabel", "nibabel.load(f).get_fdata()"),
}
IMAGE_ENDINGS = {".fits": "fits", ".fit": "fits", ".dcm": "dicom", ".nii": "nifti"}


def refused_images(file: Where, form: str) -> DataError:
    """Return the error for scientific images. Its hint converts all in the folder to one array."""
    what, imports, read = IMAGES[form]
    pattern, made = str(file.parent / f"*{file.suffix}"), f"{file.parent.resolve().name}.npy"
    code = (
        f"import glob, numpy; {imports}; numpy.save({json.dumps(made)}, "
        f"numpy.stack([{read} for f in sorted(glob.glob({json.dumps(pattern)}))]))"
    )
    return DataError(
        f"{file}: {what}, which is not read", hint=f"convert all to one array: {shlex.join(['python', '-c', code])}"
    )


def refused(name: str, form: str, *, path: Where | None = None) -> DataError:
    """Return the error for a format that aecli does not read. Its hint is a command that converts the data."""
    source = json.dumps(str(path or "FILE"), ensure_ascii=False)
    if form in IMAGES:
        return refused_images(path or Path(f"FILE{next(e for e, of in IMAGE_ENDINGS.items() if of == form)}"), form)
    if form in OTHER:
        what, way = OTHER[form]
        made = _quoted(path, ".csv")
        return DataError(
            f"{name}: {what}, which is not read",
            hint=way.format(source=source, made=made, word=shlex.quote(str(path or "FILE"))),
        )
    what, code, ending = REFUSED[form]
    made = _quoted(path, ending)
    hint = shlex.join(["python", "-c", code.format(source=source, made=made)])
    if form in ALSO:
        hint += f", or for a plain array {ALSO[form].format(source=source, array=_quoted(path, '.npy'))}"
    if form in TRUSTED:
        hint = f"only if you trust it, because it may run any program: {hint}"
    return DataError(f"{name}: {what}, which is not read", hint=hint)


def _quoted(path: Where | None, ending: str) -> str:
    """Return the name of a converted file, as Python and R write it."""
    return json.dumps((path.stem if path else "FILE") + ending, ensure_ascii=False)
