"""``python -m petl_guide``: the ledger of claims, the notebooks, and the check of a method of one's own.

Bad input ends with one message on standard error and exit code 2; what is found wrong, with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from petl_core.utils import UserError, exit_code

EXAMPLES = """examples:
  python -m petl_guide claims                                            on the shipped records
  python -m petl_guide claims --profile quick --results runs/results-quick   on those of make reproduce
  python -m petl_guide notebooks --help                                  execute, refresh and check the notebooks
  python -m petl_guide check-method notebooks/ia3.py                     is my method's file right? (runs the file)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def act() -> int:
        if arguments[:1] == ["notebooks"]:
            from petl_guide import notebooks

            return notebooks.main(arguments[1:])
        options = _parser().parse_args(arguments)
        return options.function(options)

    return exit_code("petl_guide", act)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m petl_guide",
        description="What the study's claims come to, the guide's notebooks, and methods of one's own.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    claims = commands.add_parser("claims", help="what each claim of the study comes to")
    claims.add_argument("--profile", default="laptop", help="whose records (default: laptop)")
    claims.add_argument("--results", metavar="DIR", help="records in another folder than the shipped ones")
    claims.add_argument("--json", action="store_true", help="print JSON")
    claims.add_argument("--compare", metavar="DIR", help="say only which verdicts differ on the same runs in DIR")
    claims.set_defaults(function=_claims)
    commands.add_parser("notebooks", help="execute, refresh, pair and check the notebooks")
    check = commands.add_parser("check-method", help="try the contract of methods on a file of your own")
    check.add_argument("file", help="the .py file; it is run")
    check.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="hyper-parameters, such as rank=4")
    check.add_argument("--quick", action="store_true", help="leave out the slow rule, compiling")
    check.set_defaults(function=_check_method)
    return parser


def _claims(options: argparse.Namespace) -> int:
    """Judge the study's claims on its published numbers and on the records of a profile."""
    from petl_core.study.records import Records
    from petl_guide import ledger
    from petl_guide.claims.table import CLAIMS, changed
    from petl_guide.results import of_folder, open_results

    results = of_folder(options.profile, options.results) if options.results else open_results(options.profile)
    if options.compare:
        differ = changed(results, Records(options.compare))
        print(f"verdicts that changed: {len(differ)} of {len(CLAIMS)}")
        for number, (here, there) in differ.items():
            print(f"  {number}: {here} here, {there} there")
        return 0
    print(ledger.as_json(results) if options.json else ledger.as_text(results))
    return 0


def _check_method(options: argparse.Namespace) -> int:
    """Register the method that a Python file defines and try every rule of the contract on it."""
    from petl_core import contract, methods
    from petl_core.cli import setting

    with methods.loaded(options.file) as name:
        try:
            method = methods.get(name, **dict(setting(text) for text in options.set))
        except ValueError as error:  # a hyper-parameter that does not exist or cannot be
            raise UserError(str(error)) from error
        outcomes = contract.check(method, slow=not options.quick)
    print(*outcomes, sep="\n")
    broken = sum(not outcome.kept for outcome in outcomes)
    print(f"{name}: {broken} of {len(outcomes)} rules broken" if broken else f"{name}: all {len(outcomes)} rules kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
