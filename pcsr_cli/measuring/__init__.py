"""Quality against compute, over pairs of pictures: PSNR and SSIM, benches, sweeps, figures."""
