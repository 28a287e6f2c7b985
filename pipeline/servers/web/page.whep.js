"use strict";
// WebRTC video by WHEP: POST sends the offer and returns the answer; DELETE of the session URL ends it.
class Whep {
  // `shown` is called at the first frame, `failed` once on a timeout or when the connection ends.
  constructor(url, video, shown, failed) {
    this.video = video;
    this.failed = failed;
    this.ended = false;
    this.peer = new RTCPeerConnection();
    this.peer.addTransceiver("video", { direction: "recvonly" });
    this.peer.addEventListener("track", ({ track, receiver }) => {
      receiver.jitterBufferTarget = 0; // min delay
      video.srcObject = new MediaStream([track]);
    });
    this.peer.addEventListener("connectionstatechange", () => {
      if (["disconnected", "failed", "closed"].includes(this.peer.connectionState)) this.fail();
    });
    this.timer = setTimeout(() => this.fail(), 5000);
    video.onplaying = () => { clearTimeout(this.timer); shown(); };
    this.open(url).catch(() => this.fail());
  }

  async open(url) {
    await this.peer.setLocalDescription();
    const answer = await fetch(url, {
      method: "POST", headers: { "Content-Type": "application/sdp" },
      body: this.peer.localDescription.sdp, signal: AbortSignal.timeout(5000),
    });
    if (answer.status !== 201) throw new Error(String(answer.status));
    this.session = answer.headers.get("Location");
    if (this.ended) { this.leave(); return; }
    await this.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  }

  fail() { if (!this.ended) { this.stop(); this.failed(); } }

  stop() {
    this.ended = true;
    clearTimeout(this.timer);
    this.video.onplaying = this.video.srcObject = null;
    this.peer.close();
    this.leave();
  }

  leave() {
    if (this.session) fetch(this.session, { method: "DELETE", keepalive: true }).catch(() => {});
    this.session = "";
  }
}
