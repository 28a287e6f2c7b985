"use strict";
// WebRTC video by WHEP: OPTIONS names STUN and TURN servers, POST sends the offer and returns the answer; DELETE of the
// session URL ends it.
const GATHER_MS = 3000, ICE_SERVER = /<([^>]*)>\s*;\s*rel="ice-server"((?:\s*;\s*[\w-]+="(?:[^"\\]|\\.)*")*)/g;

class Whep {
  // `shown` is called at the first frame, `failed` once on a timeout or when the connection ends.
  constructor(url, video, shown, failed) {
    this.video = video;
    this.failed = failed;
    this.ended = false;
    this.wait(5000);
    video.onplaying = () => { clearTimeout(this.timer); shown(); };
    this.open(url).catch(() => this.fail());
  }

  wait(ms) { clearTimeout(this.timer); this.timer = setTimeout(() => this.fail(), ms); }

  async open(url) {
    const options = await fetch(url, { method: "OPTIONS", signal: AbortSignal.timeout(5000) });
    if (this.ended) return;
    const iceServers = Whep.iceServers(options.headers.get("Link") || "");
    this.connect(iceServers);
    await this.peer.setLocalDescription();
    if (iceServers.length) { this.wait(5000 + 2 * GATHER_MS); await this.gathered(); }
    const answer = await fetch(url, {
      method: "POST", headers: { "Content-Type": "application/sdp" },
      body: this.peer.localDescription.sdp, signal: AbortSignal.timeout(5000 + GATHER_MS),
    });
    if (answer.status !== 201) throw new Error(String(answer.status));
    this.session = answer.headers.get("Location");
    if (this.ended) { this.leave(); return; }
    await this.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  }

  static iceServers(links) {
    return [...links.matchAll(ICE_SERVER)].map(([, url, rest]) => {
      const given = Object.fromEntries([...rest.matchAll(/([\w-]+)="((?:[^"\\]|\\.)*)"/g)]
        .map(([, key, value]) => [key, value.replace(/\\(.)/g, "$1")]));
      return "username" in given ? { urls: url, username: given.username, credential: given.credential } : { urls: url };
    });
  }

  connect(iceServers) {
    this.peer = new RTCPeerConnection({ iceServers });
    this.peer.addTransceiver("video", { direction: "recvonly" });
    this.peer.addEventListener("track", ({ track, receiver }) => {
      receiver.jitterBufferTarget = 0; // min delay
      this.video.srcObject = new MediaStream([track]);
    });
    this.peer.addEventListener("connectionstatechange", () => {
      if (["disconnected", "failed", "closed"].includes(this.peer.connectionState)) this.fail();
    });
  }

  // The offer has all candidates: the server tries them, and there is no message for later ones.
  gathered() {
    return new Promise((resolve) => {
      const done = () => { if (this.peer.iceGatheringState === "complete") resolve(); };
      this.peer.addEventListener("icegatheringstatechange", done);
      setTimeout(resolve, GATHER_MS);
      done();
    });
  }

  fail() { if (!this.ended) { this.stop(); this.failed(); } }

  stop() {
    this.ended = true;
    clearTimeout(this.timer);
    this.video.onplaying = this.video.srcObject = null;
    if (this.peer) this.peer.close();
    this.leave();
  }

  leave() {
    if (this.session) fetch(this.session, { method: "DELETE", keepalive: true }).catch(() => {});
    this.session = "";
  }
}
