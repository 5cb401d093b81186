"""aecli embed."""

from aecli.cli import options, rows, tables


def embed(
    model: options.Model,
    data: options.Data = None,
    output: options.Output = None,
    form: options.Format = None,
    keep: options.Keep = None,
    label: options.CarryLabel = True,
    header: options.Header = True,
    error: options.Error = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Compress rows to their latent values: CSV on stdout.

    $ aecli embed digits.safetensors digits > codes.csv

    Kept columns and the label come first, then z0, z1, ...; one row for each input row, in input order.
    """
    from aecli.inference import Model, Rebuilt

    loaded = Model(model, device_name=device)
    source = rows.open_rows(model, data, loaded.checkpoint, data_dir=data_dir, keep=keep or (), quiet=quiet)
    names = [f"z{i}" for i in range(loaded.checkpoint.model.latent_dim)]
    carried = tables.Carried(source, keep or (), label=label, beside=[*names, *["mse"] * error])
    with tables.open_output(output, form, header=header, inputs=(str(model), data), quiet=quiet) as sink:
        for out in loaded.rebuilt(source) if error else loaded.encoded(source):
            columns = dict(zip(names, out.z.T, strict=True))
            sink.write(carried.of(out.batch) | columns | ({"mse": out.mse} if isinstance(out, Rebuilt) else {}))
