import { PLATFORMS } from "../coco/platform/platform.ts";
import { environment } from "../node/environment.ts";
import { readTraceFile } from "../node/input.ts";
import { loadPolicy } from "../node/policy-file.ts";
import { MODIFIERS } from "../policy/modifiers.ts";
import { PRESETS } from "../policy/presets.ts";
import { SCENARIOS } from "../policy/scenarios.ts";
import { auditReport } from "../report/audit.ts";
import type { AuditDocument } from "../report/documents.ts";
import { renderText } from "../report/render/text.ts";
import { auditWorkload } from "../study/audit.ts";
import { GUEST_DEFAULTS } from "../study/layout.ts";
import { DEFAULT_SCENARIO } from "../study/subject.ts";
import { checkOutputs, sayWritten, writeJson } from "./outputs.ts";
import { guestSize, policyPlace, REPLAY_OPTIONS, traceOptions } from "./replay-options.ts";
import { mayColor, parseOptions, progress, UsageError } from "./usage.ts";

const AUDIT_HELP = `Usage: coco-dma audit TRACE --policy P [options]

Replays a block trace (ftrace text, plain or gzip) under a DMA policy on the build that knows where each byte came from, and
reports what the host could read: bytes exposed (of a device that is not trusted, as designed) and breached (of an accepted
device's data), by owner and page; the history of the first one; what stays in freed slots and for how long.
Exit code: 1 on any breach, 0 without, 2 for a wrong call or input.

Options:
  --policy P         a preset with modifiers, such as cc-accepted+force, or a file of your own, such as ./mine.ts (it is run)
  --scenario S       ${SCENARIOS.map(({ name }) => name).join(", ")}
                     (default: ${DEFAULT_SCENARIO})
  --platform P       ${Object.keys(PLATFORMS).join(", ")} (default: the scenario's)
  --ram SIZE         RAM of the guest (default 1G)
  --pool SIZE        bounce pool (default: 6 % of RAM, 64M to 1G)
  --areas N          areas of the pool (default: CPUs in the trace)
  --contiguity N     mean run of physically adjacent pages in a buffer (default ${GUEST_DEFAULTS.contiguity})
  --seed N           of the page allocator (default ${GUEST_DEFAULTS.seed})
  --iodepth N        for a trace without completions: so many requests are in flight
  --json FILE|-      the report as JSON; "-": JSON alone on standard output
  --help

Presets: ${PRESETS.map(({ name }) => name).join(", ")}
Modifiers: ${MODIFIERS.map(({ name }) => name).join(", ")}
What they do: coco-dma policies --list
`;

/** Runs `coco-dma audit`. @returns the exit code */
export async function auditCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		...REPLAY_OPTIONS,
		policy: { type: "string" },
		json: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(AUDIT_HELP);
		return 0;
	}
	const [trace, ...more] = positionals;
	if (trace === undefined) throw new UsageError("expected a TRACE (see coco-dma audit --help)");
	if (more.length > 0) throw new UsageError(`unexpected argument "${more[0]}": one trace at a time`);
	if (values.policy === undefined) throw new UsageError("--policy: expected a policy (see coco-dma audit --help)");
	checkOutputs({ json: values.json }, [trace]);
	const options = { ...policyPlace(values), ...guestSize(values) };
	const policy = await loadPolicy(values.policy);
	const workload = await readTraceFile(trace, traceOptions(values));
	progress(`${trace}: ${policy.name}`);
	const report = await auditWorkload(workload, { policy, ...options });
	progress("");
	if (values.json !== "-") process.stdout.write(`${renderText(auditReport(report), { color: mayColor() })}\n`);
	if (values.json !== undefined)
		writeJson<AuditDocument>(values.json, { ...report, command: "audit", environment: environment() });
	sayWritten(values);
	return report.verdict.kind === "BREACH" ? 1 : 0;
}
