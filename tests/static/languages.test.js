import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import english from "../../static/words-en.js";

const FOLDER = new URL("../../static/", import.meta.url);
const LANGUAGES = ["de", "es", "fr"];
const read = (name) => readFileSync(new URL(name, FOLDER), "utf8");
const wordsOf = (language) => JSON.parse(read(`words-${language}.json`)).scripts;
const scripts = readdirSync(FOLDER).filter((name) => name.endsWith(".js") && name !== "words-en.js");
const withoutComments = (source) => source.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");

const isPlural = (value) => typeof value.other === "string";

/** Each text by its path, such as `problems.lost`; plural forms are one. */
function flat(value, path = "") {
	if (typeof value === "string" || isPlural(value)) return { [path]: value };
	return Object.assign({}, ...Object.entries(value).map(([key, part]) => flat(part, path ? `${path}.${key}` : key)));
}

const textsOf = (value) => (typeof value === "string" ? [value] : Object.values(value));
const placeholders = (text) => [...text.matchAll(/\{\w+\}/g)].map(([found]) => found).sort();

/** The module as a page in a language has it. */
async function load(language) {
	globalThis.voiceWords = language === "en" ? undefined : wordsOf(language);
	globalThis.document = { documentElement: { lang: language } };
	return import(`../../static/words.js?${language}`);
}

test("each language has the words that English has, and no others", () => {
	for (const language of LANGUAGES) {
		assert.deepEqual(Object.keys(flat(wordsOf(language))).sort(), Object.keys(flat(english)).sort(), language);
	}
});

test("what is filled in is the same in each language, and no text is empty", () => {
	for (const language of LANGUAGES) {
		const translated = flat(wordsOf(language));
		for (const [path, source] of Object.entries(flat(english))) {
			const wanted = placeholders(textsOf(source)[0]);
			for (const text of textsOf(translated[path])) {
				assert.notEqual(text, "", `${language} ${path}`);
				assert.deepEqual(placeholders(text), wanted, `${language} ${path}`);
			}
		}
	}
});

test("numbers of things have the plural forms that the language has for them", () => {
	for (const language of ["en", ...LANGUAGES]) {
		const rules = new Intl.PluralRules(language);
		const needed = new Set([1, 2, 5, 21, 100].map((number) => rules.select(number)));
		const source = language === "en" ? english : wordsOf(language);
		for (const [path, value] of Object.entries(flat(source)).filter(([, one]) => typeof one !== "string")) {
			assert.deepEqual(new Set(Object.keys(value)), needed, `${language} ${path}`);
		}
	}
});

test("each word of the scripts is used", () => {
	const sources = scripts.map((name) => withoutComments(read(name))).join("\n");
	const unused = Object.keys(english).filter((key) => !new RegExp(`\\bwords\\.${key}\\b`).test(sources));
	assert.deepEqual(unused, []);
});

/** Keys of a keyboard, a reason of the server's, the name of the product, and the languages in their own. */
const NOT_TRANSLATED = ["Enter", "Escape", "Tab", "stopped talking", "Voice", " · Voice", "English", "Deutsch", "Français", "Español"];

/** Strings of a script, but for what only developers read, that read like a text: a capital letter that begins a word, or two words side by side. */
function readable(source) {
	const shown = source.replace(/new (Error|DOMException)\([^)]*\)/g, "");
	const strings = [...shown.matchAll(/"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g)];
	const texts = strings.map(([, plain, template]) => plain ?? template.replace(/\$\{[^{}]*\}/g, ""));
	const isText = (text) => /(^|[^\w-])\p{Lu}\p{Ll}+($|[\s.,:;?!…])|\p{Ll} \p{Ll}/u.test(text.replace(/<[^>]*>/g, ">"));
	return texts.filter((text) => isText(text) && !NOT_TRANSLATED.includes(text));
}

test("no script has English of its own", () => {
	for (const name of scripts) assert.deepEqual(readable(withoutComments(read(name))), [], name);
	const found = readable('show("state", "Off"); `<p>${name}</p><b>Whoever runs it</b>`; write(one, "not live")');
	assert.equal(found.length, 3);
});

test("a language counts, writes numbers and times, and quotes as it is used to", async () => {
	const { audience, behindText, heard, latencyText } = await load("fr");
	assert.equal(audience({ receivers: 1, listeners: 1200 }), "1 récepteur, 1\u202f200 auditeurs MP3");
	assert.equal(behindText(2.34), "2,3 s de retard sur le direct, mesuré");
	assert.equal(latencyText(1.234, true), "1\u202f234 ms de retard sur le serveur, mesuré");
	const kitchen = { stream: { name: "Cuisine" }, streamId: "x", stalled: false, audio: { volume: 1 } };
	assert.equal(heard(kitchen), "À l’écoute de «\u00a0Cuisine\u00a0»");
	const german = await load("de");
	assert.equal(german.audience({ receivers: 1 }), "1 Empfänger");
	assert.match(german.streamFacts({ started_at: 0, receivers: 2 }), /^Seit \d\d:\d\d · 2 Empfänger$/);
});

test("names from right to left do not reorder the sentence around them", async () => {
	const { fill, isolate, receiverText, senderText, takenText, words } = await load("en");
	for (const name of ["מטבח", "مطبخ 2", "Kitchen (מטבח)", "ܒܝܬܐ", "ߒߞߏ", "𞤀𞤣𞤤"]) {
		const isolated = `\u2068${name}\u2069`;
		assert.equal(isolate(name), isolated);
		assert.equal(takenText(name), `“${isolated}” is in use: take over?`);
		assert.equal(fill(words.of, { what: "Listen", name }), `Listen: ${isolated}`);
		assert.equal(fill(words.notLive, { name }), `${isolated} (not live)`);
		const stream = { stream_id: "x", name };
		assert.equal(senderText({ state: "live", muted: false, stream, streamId: "x" }), `Live as “${isolated}”`);
		const receiver = { state: "playing", chosen: null, stream, streamId: "x", stalled: false, audio: { volume: 1 } };
		assert.equal(receiverText(receiver, null), `You hear “${isolated}”`);
		const waiting = { ...receiver, state: "waiting", chosen: name };
		assert.equal(receiverText(waiting, null), `Waiting for “${isolated}”…`);
	}
	for (const name of ["Kitchen", "日本語（台所）", "Café #2", "रसोई", "12"]) assert.equal(isolate(name), name);
});
