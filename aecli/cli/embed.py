"""aecli embed."""

from aecli.cli import options, progress, rows, tables


def embed(
    model: options.Model,
    data: options.Data = None,
    output: options.Output = None,
    form: options.Format = None,
    keep: options.Keep = None,
    label: options.CarryLabel = True,
    header: options.Header = True,
    error: options.Error = False,
    input_format: options.InputFormat = None,
    input_header: options.InputHeader = None,
    delimiter: options.Delimiter = None,
    unknown: options.Unknown = "error",
    skip_broken: options.SkipBroken = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Compress rows to their latent values: CSV on stdout.

    $ aecli embed digits.safetensors digits > codes.csv

    Kept columns and the label come first, then z0, z1, ...; one row for each input row, in input order.
    """
    rows.check_data(model, data)
    from aecli.inference import Model, Rebuilt

    loaded = Model(model, device_name=device)
    source = rows.open_rows(
        data,
        loaded.checkpoint,
        data_dir=data_dir,
        keep=keep or (),
        ignore_unknown=unknown == "ignore",
        quiet=quiet,
        form=input_format,
        header=input_header,
        delimiter=delimiter,
        skip_broken=skip_broken,
        live=line_buffered,
    )
    names = [f"z{i}" for i in range(loaded.checkpoint.model.latent_dim)]
    carried = tables.Carried(source, keep or (), label=label, beside=[*names, *["mse"] * error])
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        stream = loaded.rebuilt if error else loaded.encoded
        for out in progress.shown(stream(source, live=line_buffered), source, output, quiet=quiet):
            columns = dict(zip(names, out.z.T, strict=True))
            sink.write(carried.of(out.batch) | columns | ({"mse": out.mse} if isinstance(out, Rebuilt) else {}))
            if line_buffered:
                sink.flush()
    rows.say_left_out(source, quiet=quiet)
