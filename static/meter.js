// @ts-check
/** Pictures of a voice. Levels are in dBFS throughout. */

/** The quietest level that is drawn; speech in a room lies between this and 0. */
const FLOOR_DB = -70;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** @param {number} db @returns {number} 0 to 1 */
const height = (db) => Math.min(1, Math.max(0, 1 - db / FLOOR_DB));

/** Sets the level that `.meter` and the round button show. @param {HTMLElement} element @param {number} db */
export function showLevel(element, db) {
  element.style.setProperty("--level", height(db).toFixed(3));
  if (element.role === "meter" || element.getAttribute("role") === "meter") {
    element.setAttribute("aria-valuenow", String(Math.round(height(db) * 100)));
  }
}

/** Measures a stream in the browser. */
export class Analyser {
  #context = new AudioContext();
  #node = this.#context.createAnalyser();
  #samples;
  #bins;

  /** @param {MediaStream} media */
  constructor(media) {
    this.#context.createMediaStreamSource(media).connect(this.#node);
    this.#samples = new Float32Array(this.#node.fftSize);
    this.#bins = new Float32Array(this.#node.frequencyBinCount);
  }

  /** @returns {number} RMS of the last 40 ms */
  get level() {
    this.#node.getFloatTimeDomainData(this.#samples);
    const power = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    return 10 * Math.log10(power || 1e-12);
  }

  /** @param {number} bands @returns {number[]} logarithmic bands from 80 Hz to 16 kHz, the loudest bin of each */
  spectrum(bands = 32) {
    this.#node.getFloatFrequencyData(this.#bins);
    const hzPerBin = this.#context.sampleRate / this.#node.fftSize;
    const edge = (band) => Math.round((80 * 200 ** (band / bands)) / hzPerBin);
    return Array.from({ length: bands }, (_, band) =>
      Math.max(...this.#bins.subarray(edge(band), Math.max(edge(band) + 1, edge(band + 1)))),
    );
  }

  close() {
    this.#context.close();
  }
}

/** A canvas of bars that follow the newest spectrum, and fall when none comes. */
export class Spectrum {
  #canvas;
  #heights = /** @type {number[]} */ ([]);
  #targets = /** @type {number[]} */ ([]);
  #drawing = false;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    this.show(new Array(32).fill(FLOOR_DB));
  }

  /** @param {number[]} bands in dBFS */
  show(bands) {
    this.#targets = bands.map(height);
    if (still.matches || this.#heights.length !== bands.length) this.#heights = [...this.#targets];
    if (!this.#drawing) this.#draw();
  }

  #draw() {
    const { clientWidth, clientHeight } = this.#canvas;
    const ratio = devicePixelRatio;
    this.#canvas.width = clientWidth * ratio;
    this.#canvas.height = clientHeight * ratio;
    const ink = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    ink.scale(ratio, ratio);
    ink.fillStyle = getComputedStyle(this.#canvas).color;
    const step = clientWidth / this.#heights.length;
    let moving = false;
    this.#heights.forEach((now, band) => {
      const gap = this.#targets[band] - now;
      this.#heights[band] = now + gap * (gap > 0 ? 0.5 : 0.18);
      moving ||= Math.abs(gap) > 0.004;
      const bar = Math.max(3, this.#heights[band] * clientHeight);
      ink.beginPath();
      ink.roundRect(band * step + step * 0.18, (clientHeight - bar) / 2, step * 0.64, bar, step * 0.32);
      ink.fill();
    });
    this.#drawing = moving;
    if (moving) requestAnimationFrame(() => this.#draw());
  }
}
