// Answers official.py with GitHub's own parser and evaluator of workflows: a JSON object a line.
import { existsSync, readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// The packages import their schemas without saying that these are JSON, which is left to bundlers.
registerHooks({
  load(url, context, next) {
    if (!url.endsWith(".json")) return next(url, context);
    const source = `export default ${readFileSync(fileURLToPath(url), "utf8")}`;
    return { format: "module", source, shortCircuit: true };
  },
});
const { data, Evaluator, Lexer, Parser } = await import("@actions/expressions");
const { validate } = await import("@actions/languageservice");
const { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } = await import(
  "@actions/workflow-parser"
);
const { parse } = await import("yaml");
const { TextDocument } = await import("vscode-languageserver-textdocument");

const root = process.env.GPU_CI_ROOT;
let asked = 0;
const STATUSES = ["always", "cancelled", "failure", "success"];

// `$/` and `./` of a workflow are files of this repository.
const fileProvider = {
  getFileContent: async ({ path }) => ({
    name: path,
    content: readFileSync(join(root, path), "utf8"),
  }),
};

// This library's actions are here under any owner and ref; of others nothing is known.
const actionsMetadataProvider = {
  fetchActionMetadata: async ({ name, path }) => {
    if (name !== "gpu-ci") return { name, description: "" };
    const file = join(root, path ?? "", "action.yml");
    return existsSync(file) ? parse(readFileSync(file, "utf8")) : undefined;
  },
};

const answers = {
  async validate({ path, text }) {
    // A text is parsed once for each address.
    const file = TextDocument.create(`file:///${(asked += 1)}/${path}`, "yaml", 1, text);
    const found = await validate(file, { actionsMetadataProvider, fileProvider });
    return found.map((each) => `${path}:${each.range.start.line + 1}: ${each.message}`);
  },

  async conditions({ path, text }) {
    const parsed = parseWorkflow({ name: path, content: text }, new NoOperationTraceWriter());
    const template = await convertWorkflowTemplate(parsed.context, parsed.value, fileProvider);
    return template.jobs.flatMap((job) => [
      { job: `${job.id}`, step: null, expression: job.if.expression },
      ...(job.steps ?? []).map((step, index) => ({
        job: `${job.id}`,
        step: index,
        expression: step.if.expression,
      })),
    ]);
  },

  async evaluate({ expression, cases }) {
    const contexts = [...new Set(cases.flatMap((each) => Object.keys(each.contexts)))];
    const known = STATUSES.map((name) => ({ name, minArgs: 0, maxArgs: 0 }));
    const parsed = new Parser(new Lexer(expression).lex().tokens, contexts, known).parse();
    return cases.map((each) => {
      const held = JSON.parse(JSON.stringify(each.contexts), data.reviver);
      const functions = known.map(({ name, ...rest }) => [
        name,
        { name, ...rest, call: () => new data.BooleanData(each.status[name]) },
      ]);
      const value = new Evaluator(parsed, held, new Map(functions)).evaluate();
      return JSON.parse(JSON.stringify(value, data.replacer));
    });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { about, ...told } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await answers[about](told) }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error}` }));
  }
}
