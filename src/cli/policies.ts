import { PLATFORMS, type PlatformName, platformNamed } from "../coco/platform/platform.ts";
import { environment } from "../node/environment.ts";
import { loadPolicy } from "../node/policy-file.ts";
import { SCENARIOS } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import type { PoliciesDocument } from "../report/documents.ts";
import { describeEnvironment } from "../report/environment.ts";
import { matrixReport, policySections } from "../report/policies.ts";
import { policiesList, policiesListReport } from "../report/policies-list.ts";
import { renderHtml } from "../report/render/html.ts";
import { renderText } from "../report/render/text.ts";
import { type MatrixStep, runMatrix } from "../study/matrix.ts";
import { loadModule } from "../wasm.ts";
import { checkOutputs, sayWritten, writeJson, writeOutput } from "./outputs.ts";
import { listOf, mayColor, parseOptions, progress, UsageError } from "./usage.ts";

const POLICIES_HELP = `Usage: coco-dma policies [options]

Runs DMA policies for confidential guests on devices and platforms, and prints what the host could read of each device's
data, to the byte, and what a mapping costs. Every cell is run; none is written down.

Options:
  --policy LIST      policies by name, such as rfc-v3,cc-accepted+force, or files of your own, such as ./mine.ts, which are
                     run (default: every preset, and modifiers on some; one policy alone is shown a line a scenario)
  --scenario LIST    ${SCENARIOS.map(({ name }) => name).join(", ")}
                     (default: all)
  --platform P       ${Object.keys(PLATFORMS).join(", ")}: runs every cell there
                     (default: each scenario's own, and parts on others)
  --open             each cell in its parts: direction, small, high and coherent buffers, platforms, and what decided
  --no-cost          verdicts only, without the measuring of what mappings cost
  --list             the presets and modifiers, each with its source; nothing is run
  --json FILE|-      write everything as JSON; "-": JSON alone on standard output
  --html FILE        write a self-contained HTML page, whose cells open
  --help
`;

/** Where sentences are broken: eight scenarios beside each other fit into it. */
const TEXT_WIDTH = 158;

async function policiesOf(list: string): Promise<PolicySetup[]> {
	const setups: PolicySetup[] = [];
	for (const name of listOf("policy", list)) setups.push(await loadPolicy(name));
	return setups;
}

function listPolicies(json: string | undefined): void {
	if (json !== "-")
		process.stdout.write(`${renderText(policiesListReport(), { color: mayColor(), width: TEXT_WIDTH })}\n`);
	if (json !== undefined) writeJson(json, policiesList());
}

/** Runs `coco-dma policies`. @returns the exit code */
export async function policiesCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		policy: { type: "string" },
		scenario: { type: "string" },
		platform: { type: "string" },
		open: { type: "boolean" },
		"no-cost": { type: "boolean" },
		list: { type: "boolean" },
		json: { type: "string" },
		html: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(POLICIES_HELP);
		return 0;
	}
	if (positionals.length > 0)
		throw new UsageError(`unexpected argument "${positionals[0]}": policies go with --policy`);
	checkOutputs({ json: values.json, html: values.html });
	if (values.list) {
		const other = Object.keys(values).find((name) => name !== "list" && name !== "json");
		if (other !== undefined) throw new UsageError(`--list runs nothing, and --${other} goes with a run`);
		listPolicies(values.json);
		return 0;
	}
	const options = {
		cost: values["no-cost"] !== true,
		...(values.scenario === undefined ? {} : { scenarios: listOf("scenario", values.scenario) }),
		...(values.platform === undefined ? {} : { platform: platformNamed(values.platform).name as PlatformName }),
		...(values.policy === undefined ? {} : { policies: await policiesOf(values.policy) }),
		progress: ({ policy, scenario }: MatrixStep) => progress(`${policy}: ${scenario}`),
	};
	// an error's line does not follow what was being run
	const matrix = await runMatrix(options).finally(() => progress(""));
	const env = environment();
	const { hash } = await loadModule("engine");
	const ranOn = describeEnvironment(env, hash);
	if (values.json !== "-") {
		const open = values.open === true;
		const report = matrix.rows.length > 1 && !open ? matrixReport(matrix, ranOn) : policySections(matrix, ranOn, open);
		process.stdout.write(`${renderText(report, { color: mayColor(), width: TEXT_WIDTH })}\n`);
	}
	if (values.json !== undefined)
		writeJson<PoliciesDocument>(values.json, { ...matrix, command: "policies", environment: env, engineHash: hash });
	if (values.html !== undefined) writeOutput(values.html, renderHtml(matrixReport(matrix, ranOn)));
	sayWritten(values);
	return 0;
}
