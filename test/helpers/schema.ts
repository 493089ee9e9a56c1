/** The schemas of what commands write, made from the types and their comments; and documents against them. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { createGenerator, type SchemaGenerator } from "ts-json-schema-generator";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The type of each schema's documents, and the room that it is of. */
export const DOCUMENTS = {
	"compare.2": ["src/report/documents", "CompareDocument"],
	"compare-policies.2": ["src/report/documents", "ComparePoliciesDocument"],
	"audit.1": ["src/report/documents", "AuditDocument"],
	"policies.2": ["src/report/documents", "PoliciesDocument"],
	"policies-list.2": ["src/report/documents", "PoliciesListDocument"],
	"explain.1": ["src/report/documents", "ExplainDocument"],
	"verify.1": ["src/report/documents", "VerifyDocument"],
	"vmbus-decode.1": ["src/report/documents", "VmbusDecodeDocument"],
	"vmbus-demo.1": ["src/report/documents", "VmbusDemoDocument"],
	"bench.1": ["bench/report", "BenchReport"],
	"bench-against.1": ["bench/report", "AgainstReport"],
} as const;
export type DocumentName = keyof typeof DOCUMENTS;

const generators = new Map<string, SchemaGenerator>();

/** Where the schema of a name lies. */
export function schemaFile(name: string): string {
	return `${ROOT}docs/schema/${name}.json`;
}

/** The schema that a document's type says now, as it lies in docs/schema/. */
export function generated(name: DocumentName): string {
	const [module, type] = DOCUMENTS[name];
	// declarations: what a const is made of is written out there
	const path = `${ROOT}build/${module}.d.ts`;
	const generator =
		generators.get(path) ??
		createGenerator({
			path,
			tsconfig: `${ROOT}tsconfig.json`,
			skipTypeCheck: true,
			topRef: false,
			expose: "all",
			// a later version of the document may have more
			additionalProperties: true,
		});
	generators.set(path, generator);
	const { $schema, ...schema } = generator.createSchema(type);
	return `${JSON.stringify({ $schema, $id: `coco-dma/${name.replace(".", "/")}`, ...schema }, null, "\t")}\n`;
}

/** The schema with no room for what it does not name. */
function closed<T>(schema: T): T {
	if (Array.isArray(schema)) return schema.map(closed) as T;
	if (typeof schema !== "object" || schema === null) return schema;
	const inner = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
	const isRecord = inner.type === "object" && "properties" in inner && !("additionalProperties" in inner);
	return (isRecord ? { ...inner, additionalProperties: false } : inner) as T;
}

/** What of some JSON is not as a schema says, a line each. @param name such as policies.2, or a type in it: policies.2#Verdict */
export function schemaErrors(name: string, data: unknown): string[] {
	const [file = "", type] = name.split("#");
	const schema = closed(JSON.parse(readFileSync(schemaFile(file), "utf8")));
	const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
	const { $schema, definitions } = schema;
	if (ajv.validate(type === undefined ? schema : { $schema, definitions, ...definitions[type] }, data)) return [];
	return (ajv.errors ?? []).map(
		({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
	);
}

/** What of a document is not as the schema says that it names. */
export function documentErrors(document: { readonly schema: string }): string[] {
	return schemaErrors(document.schema.replace(/^coco-dma\/(.*)\/(\d+)$/, "$1.$2"), document);
}
