"""Images and video: the tiny vision-language policy, and the way of pixels to the engines and the learner."""
