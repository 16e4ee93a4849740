// The TypeScript SDK's first generation: node sdk.mjs URL PICTURE, where URL is http:, https:, ws: or wss:.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import { travel } from "./journey.mjs";

const [url, picture] = process.argv.slice(2);
const Transport = url.startsWith("ws") ? WebSocketClientTransport : StreamableHTTPClientTransport;
const transport = new Transport(new URL(url));
let version;
transport.setProtocolVersion = (agreed) => {
  version = agreed;
  Transport.prototype.setProtocolVersion?.call(transport, agreed);
};
const client = new Client({ name: "sdk", version: "1" });
await client.connect(transport);
await travel(client, (params, options) => client.callTool(params, undefined, options), version, picture);
