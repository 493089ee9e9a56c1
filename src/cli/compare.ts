import { chartLibrary } from "../node/chart-library.ts";
import { environment } from "../node/environment.ts";
import { readTraceFile } from "../node/input.ts";
import { processRunner } from "../node/runner.ts";
import { compareReport } from "../report/compare.ts";
import type { CompareDocument } from "../report/documents.ts";
import { describeEnvironment } from "../report/environment.ts";
import { renderHtml } from "../report/render/html.ts";
import { renderText } from "../report/render/text.ts";
import { type Comparison, compareWorkload } from "../study/compare.ts";
import { checkRepeat, DEFAULT_REPEAT, GUEST_DEFAULTS } from "../study/layout.ts";
import { DEFAULT_DEVICE, DEFAULT_SCENARIO, MODES, type Mode } from "../study/subject.ts";
import { DEVICE_PRESETS, devicePresetNamed } from "../workload/presets.ts";
import { LOST_AFTER, type Workload } from "../workload/workload.ts";
import { comparePolicyCommand } from "./compare-policies.ts";
import { checkOutputs, sayWritten, writeJson, writeOutput } from "./outputs.ts";
import { guestSize, REPLAY_OPTIONS, traceOptions } from "./replay-options.ts";
import { listOf, mayColor, parseOptions, progress, UsageError, wholeNumber } from "./usage.ts";

const COMPARE_HELP = `Usage: coco-dma compare TRACE... [options]

Replays block traces (ftrace text with block_rq_issue and block_rq_complete, plain or gzip) through Linux 6.12's DMA
rules, and shows what bouncing costs against direct DMA.

Options:
  --device NAME      ${DEVICE_PRESETS.map((preset) => preset.name).join(", ")} (default ${DEFAULT_DEVICE})
  --mode LIST        modes to run: direct, bounce (default both)
  --policy LIST      DMA policies instead of modes, such as rfc-v3,cc-accepted,./mine.ts: what each costs (release build) and
                     what it exposes (audit build, same input and seed), in one table and one chart; the device is the
                     scenario's. coco-dma policies --list names them
  --scenario S       with --policy: the device and its trust (default ${DEFAULT_SCENARIO})
  --platform P       with --policy: default the scenario's
  --ram SIZE         RAM of the guest (default 1G); above 3G the rest lies above 4 GiB
  --pool SIZE        bounce pool, rounded as Linux does (default: 6 % of RAM, 64M to 1G, as in a confidential guest)
  --areas N          areas of the pool (default: CPUs in the trace); rounded up to a power of two
  --contiguity N     mean run of physically adjacent pages in a buffer (default ${GUEST_DEFAULTS.contiguity})
  --seed N           of the page allocator (default ${GUEST_DEFAULTS.seed})
  --iodepth N        for a trace without completions: a request completes when the Nth one behind it is issued
  --repeat N         timed passes; medians are shown (default ${DEFAULT_REPEAT})
  --json FILE|-      write all figures as JSON; "-": JSON alone on standard output
  --html FILE        write a self-contained HTML report
  --help

The model:
  A request lives from its issue to its completion, keyed by device and sector. Where its sector is issued again while it
  lives, or it lives ${LOST_AFTER} times as long as the longest completed one, its completion was lost: it completes at once, and the
  high-water mark with it held stands beside. What else is live at the end is completed there. Flushes and zero-length
  requests map no data.
  Its buffer is pages from a seeded allocator over a quarter of RAM (at most 256M), in runs of physically adjacent pages.
  Each run is a segment; segments and requests are split at the device's limits and at dma_max_mapping_size, and a
  request's segments are mapped as one scatter-gather list: a write TO_DEVICE, a read FROM_DEVICE. The CPU of the trace
  chooses the pool's area. virtio-blk maps a 16 B header and a 1 B status with each request; nvme and ahci map only data.
  direct: a trusted device on private pages. bounce: an untrusted one, all of whose mappings go through the shared pool.
  In both the device really moves the bytes between the mapped memory and its own store (64 MiB), timed apart.
  A refused request moves no data and is counted by reason.
`;

function parseModes(text: string | undefined): Mode[] {
	if (text === undefined) return [...MODES];
	const modes = listOf("mode", text).map((name) => {
		const mode = MODES.find((candidate) => candidate === name);
		if (mode === undefined) throw new UsageError(`--mode: expected ${MODES.join(" or ")}, not "${name}"`);
		return mode;
	});
	return modes;
}

/** Runs `coco-dma compare`. @returns the exit code */
export async function compareCommand(args: readonly string[]): Promise<number> {
	const { values, positionals: traces } = parseOptions(args, {
		device: { type: "string" },
		mode: { type: "string" },
		policy: { type: "string" },
		...REPLAY_OPTIONS,
		repeat: { type: "string" },
		json: { type: "string" },
		html: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(COMPARE_HELP);
		return 0;
	}
	if (traces.length === 0) throw new UsageError("expected at least one TRACE file");
	if (values.policy !== undefined) return comparePolicyCommand(traces, values.policy, values);
	for (const name of ["scenario", "platform"] as const)
		if (values[name] !== undefined) throw new UsageError(`--${name}: goes with --policy`);
	const modes = parseModes(values.mode);
	const repeat = wholeNumber("repeat", values.repeat) ?? DEFAULT_REPEAT;
	checkRepeat(repeat);
	const asked = {
		modes,
		...guestSize(values),
		device: devicePresetNamed(values.device ?? DEFAULT_DEVICE).name,
		repeat,
	};
	checkOutputs({ json: values.json, html: values.html }, traces);
	const workloads: Workload[] = [];
	for (const trace of traces) workloads.push(await readTraceFile(trace, traceOptions(values)));
	const env = environment();
	const comparisons: Comparison[] = [];
	for (const workload of workloads)
		comparisons.push(
			await compareWorkload(workload, {
				...asked,
				runner: processRunner,
				progress: ({ subject }) => progress(`${workload.name}: ${subject}`),
			}),
		);
	progress("");
	const { schema, options } = comparisons[0] as Comparison;
	const results = comparisons.flatMap((comparison) => comparison.results);
	const report = compareReport(comparisons, describeEnvironment(env, results[0]?.engineHash));
	if (values.json !== "-") process.stdout.write(`${renderText(report, { color: mayColor() })}\n`);
	if (values.json !== undefined)
		writeJson<CompareDocument>(values.json, { schema, command: "compare", environment: env, options, results });
	if (values.html !== undefined) writeOutput(values.html, renderHtml(report, chartLibrary()));
	sayWritten(values);
	return 0;
}
