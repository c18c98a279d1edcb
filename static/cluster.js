import { write } from "./copy.js";
import { byId, openSocket, show } from "./page.js";
import { audience, countText, fill, words } from "./words.js";

/** @typedef {{id: string, name: string, url: string, version: string, draining: boolean, receivers: number,
 *  listeners: number, pulls: number, unreachable: string[],
 *  streams: {stream_id: string, name: string, paused: boolean, pulled: boolean}[]}} Node */

const POLL_MS = 2_000;

const socket = openSocket({ pollMs: 5_000 });
/** By the node's id. @type {Map<string, HTMLElement>} */
const cards = new Map();
let timer = 0;

/** @param {Element} card @param {string} selector @returns {HTMLElement} */
const part = (card, selector) => /** @type {HTMLElement} */ (card.querySelector(selector));

/** @returns {Promise<{node: string, registry: string, nodes: Node[]} | null>} null: it said why */
async function load() {
	const reply = await fetch(socket.address("api/cluster")).catch(() => null);
	if (!reply) return null;
	if (reply.ok) {
		show("problem", "");
		return reply.json();
	}
	const { detail = words.clusterForbidden } = await reply.json().catch(() => ({}));
	show("problem", reply.status === 404 ? words.clusterAlone : detail);
	return { node: "", registry: "", nodes: [] };
}

/** @param {Node} node */
function draw(node, isHere = false) {
	let card = cards.get(node.id);
	if (!card) {
		card = byId("node").content.firstElementChild.cloneNode(true);
		cards.set(node.id, /** @type {HTMLElement} */ (card));
		byId("nodes").append(/** @type {HTMLElement} */ (card));
	}
	const own = /** @type {HTMLElement} */ (card);
	write(part(own, "h2"), isHere ? fill(words.clusterHere, { name: node.name }) : node.name);
	write(part(own, ".badge"), node.draining ? words.clusterStopping : "");
	write(part(own, ".facts"), `${audience(node)} · ${countText(words.clusterPulls, node.pulls)}`);
	const unreachable = node.unreachable.length ? fill(words.clusterUnreachable, { names: node.unreachable.join(", ") }) : "";
	write(part(own, ".said"), [node.url, node.version, unreachable].filter(Boolean).join(" · "));
	const voices = node.streams.map(({ name, paused, pulled }) => {
		const item = document.createElement("li");
		item.dir = "auto";
		item.textContent = [name, paused && words.paused, pulled && words.clusterHeard].filter(Boolean).join(" · ");
		return item;
	});
	part(own, ".voices").replaceChildren(...voices);
}

async function poll() {
	clearTimeout(timer);
	const cluster = await load();
	if (cluster) {
		for (const node of cluster.nodes) draw(node, node.id === cluster.node);
		for (const [id, card] of cards) {
			if (cluster.nodes.some((node) => node.id === id)) continue;
			card.remove();
			cards.delete(id);
		}
		const text = cluster.registry === "away" ? words.clusterRegistryAway : countText(words.clusterNodes, cluster.nodes.length);
		show("state", cluster.nodes.length ? text : "");
	}
	clearTimeout(timer);
	timer = setTimeout(poll, POLL_MS);
}
socket.on("state", () => socket.state === "open" && poll());
