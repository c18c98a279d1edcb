// @ts-check
/**
 * @typedef {{total: number, network: number | null, buffer: number, output: number | null}} Delay
 *   in milliseconds, from the server to the loudspeaker; null where the browser does not measure
 */

/** Measures how far behind the server a WebRTC receiver is, over the time between two calls.
 *  @param {RTCPeerConnection} peer @returns {() => Promise<Delay | null>} null until there is something to compare */
export function delayMeter(peer) {
  const before = { delay: 0, count: 0, playout: 0, samples: 0 };
  return async () => {
    /** @type {any} */
    const stats = {};
    for (const report of (await peer.getStats()).values()) {
      if (report.type !== "candidate-pair" || report.nominated || report.selected) stats[report.type] = report;
    }
    const inbound = stats["inbound-rtp"];
    const playout = stats["media-playout"];
    if (!inbound?.jitterBufferEmittedCount) return null;
    const now = {
      delay: inbound.jitterBufferDelay,
      count: inbound.jitterBufferEmittedCount,
      playout: playout?.totalPlayoutDelay ?? 0,
      samples: playout?.totalSamplesCount ?? 0,
    };
    const fresh = now.count - before.count;
    const played = now.samples - before.samples;
    if (!fresh) return null;
    const rtt = stats["candidate-pair"]?.currentRoundTripTime;
    const network = rtt === undefined ? null : (rtt / 2) * 1000;
    const buffer = ((now.delay - before.delay) / fresh) * 1000;
    const output = played ? ((now.playout - before.playout) / played) * 1000 : null;
    Object.assign(before, now);
    return { total: (network ?? 0) + buffer + (output ?? 0), network, buffer, output };
  };
}
