// What every JavaScript client does with a server, for tests/clients/journey.py to judge: prints one JSON object.

import { readFileSync } from "node:fs";

const within = { timeout: 60_000 };

// `call(params, options)` is the client's callTool; all else is the same in both generations of the SDK.
export async function travel(client, call, version, picture) {
  const detect = { name: "detect_objects", arguments: { image: readFileSync(picture).toString("base64") } };
  const found = async () => {
    const result = await call(detect, within);
    return result.isError ? result.content : result.structuredContent.detections.map((detection) => detection.label);
  };

  const { tools } = await client.listTools({}, within);

  // The first call waits for the engine: it says that it is under way, and is cancelled then.
  const stop = new AbortController();
  const cancelled = await call(detect, {
    ...within,
    signal: stop.signal,
    onprogress: () => stop.abort(new Error("not wanted any more")),
  }).then(
    (result) => `answered: ${JSON.stringify(result)}`,
    (error) => `refused: ${error.message}`,
  );

  const labels = [await found(), await found()];
  const { resources } = await client.listResources({}, within);
  const { resourceTemplates } = await client.listResourceTemplates({}, within);
  const contents = {};
  for (const { uri } of resources) {
    contents[uri] = (await client.readResource({ uri }, within)).contents;
  }
  const missing = await client.readResource({ uri: "model://no-such-model" }, within).then(
    () => 0,
    (error) => error.code,
  );
  const { prompts } = await client.listPrompts({}, within);
  const messages = {};
  for (const { name, arguments: wanted = [] } of prompts) {
    const given = {};
    for (const argument of wanted.filter((one) => one.required)) {
      const asked = { ref: { type: "ref/prompt", name }, argument: { name: argument.name, value: "" } };
      given[argument.name] = (await client.complete(asked, within)).completion.values[0];
    }
    messages[name] = (await client.getPrompt({ name, arguments: given }, within)).messages;
  }

  const names = tools.map((tool) => tool.name);
  const templates = resourceTemplates.map((template) => template.uriTemplate);
  console.log(JSON.stringify({ version, tools: names, cancelled, labels, templates, contents, missing, messages }));
  await client.close();
}
