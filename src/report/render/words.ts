/** What every format writes in the same way: sentences, labels, values. */
import type { Figure, Row, Value, Words } from "../model.ts";
import { formatNumber, formatRounded } from "../units.ts";

/** A sentence without what sets its parts off. */
export function plainText(words: Words): string {
	if (typeof words === "string") return words;
	return words
		.map((part) => {
			if (typeof part === "string") return part;
			if ("strong" in part) return part.strong;
			if ("code" in part) return part.code;
			return part.text === part.link ? part.link : `${part.text} <${part.link}>`;
		})
		.join("");
}

/** A row's label, with the unit of its figures where they do not say it. */
export function labelText({ label, unit }: Pick<Row, "label" | "unit">): string {
	return unit === null || !unit.inLabel ? label : `${label}, ${unit.name}`;
}

function signOf(number: number, signed: boolean): string {
	return number < 0 ? "-" : signed ? "+" : "";
}

function figureText({ number, unit, signed }: Figure): string {
	return signed ? `${signOf(number, true)}${unit.write(Math.abs(number))}` : unit.write(number);
}

/** A value in a line. */
export function valueText(value: Value): string {
	switch (value.value) {
		case "figure":
			return figureText(value);
		case "rounded": {
			const { number, halfWidth, unit, signed } = value;
			return `${signOf(number, signed)}${formatRounded(Math.abs(number), halfWidth)}${unit.mark}`;
		}
		case "range":
			return `${value.unit.write(value.low)} to ${value.unit.write(value.high)}`;
		case "equal":
			return "equal within noise";
		case "below-clock":
			return "below the clock";
		case "text":
			return value.text;
		case "counts": {
			const counts = Object.entries(value.counts).map(([name, count]) => `${formatNumber(count)} ${name}`);
			return counts.length === 0 ? "none" : counts.join(", ");
		}
		case "said":
			return [...value.lines.map(({ text }) => text), ...value.costs.map(figureText)].join(", ");
		case "missing":
			return "-";
	}
}
